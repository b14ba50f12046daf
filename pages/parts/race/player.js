// Plays a race in the page: play, scrub, speed, keys; at rest where the reader wants no motion or cannot see it.
// Reads: what player.py sends, the page's colours. Writes: its own element; names are set as text, never as markup.

const HIGHEST = { wide: 440, tall: 620 };  // pixels: what is below stays in view
const ROW = 25, AROUND = 150;              // pixels that a row needs, and what stands above and below the rows
const ICONS = {
  play: "M3 1.5v11l9.5-5.5z",
  pause: "M2.5 1.5h3.4v11H2.5zM8.1 1.5h3.4v11H8.1z",
  again: "M7 1.4a5.6 5.6 0 1 0 5.6 5.6h-1.8A3.8 3.8 0 1 1 7 3.2c1 0 2 .4 2.7 1.1L8 6h4.6V1.4l-1.6 1.6A5.6 5.6 0 0 0 7 1.4z",
};
const SAID = { play: "Play", pause: "Pause", again: "Again" };
const players = new WeakMap();

export default function race({ data, parentElement }) {
  const element = parentElement.querySelector(".player");
  if (!players.has(element)) players.set(element, new Player(element));
  players.get(element).show(data);
  return () => {
    players.get(element)?.close();
    players.delete(element);
  };
}

class Player {
  constructor(element) {
    const part = (name) => element.querySelector(name);
    Object.assign(this, { element, canvas: part("canvas"), button: part(".play"), scrub: part(".scrub"), where: part(".where"),
      speed: part(".speed"), loop: part(".loop"), told: part(".told") });
    this.calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    Object.assign(this, { frame: 0, playing: false, held: 0, visible: true, width: 0 });
    this.button.addEventListener("click", () => this.toggle());
    this.canvas.addEventListener("click", () => this.toggle());
    this.scrub.addEventListener("input", () => this.go(Number(this.scrub.value)));
    this.scrub.addEventListener("change", () => this.tell());
    element.addEventListener("keydown", (event) => this.key(event));
    this.sizes = new ResizeObserver(() => this.fit());
    this.sizes.observe(element);
    this.sight = new IntersectionObserver(([entry]) => this.seen(entry.isIntersecting));
    this.sight.observe(element);
    this.lights = window.matchMedia("(prefers-color-scheme: dark)");
    this.relight = () => window.setTimeout(() => this.fit(true), 60);  // once the page has taken its new colours
    this.lights.addEventListener("change", this.relight);
  }

  // Shows other numbers at the same moment of the race; the same numbers change nothing.
  show(data) {
    const first = !this.race, share = first ? 0 : this.frame / Math.max(1, this.race.frames - 1);
    if (!first && data.stamp === this.race.stamp) return this.fit(true);
    this.race = new Race(data);
    const end = data.frames - 1, still = end === 0;
    this.element.classList.toggle("still", still);
    this.scrub.max = String(end);
    this.canvas.setAttribute("aria-label", data.about);
    this.told.textContent = "";
    this.frame = first && (data.rest || this.calm) ? end : Math.round(share * end);
    if (first && !data.rest && !this.calm && !still) this.playing = true;
    this.fit(true);
    if (this.playing) this.run();
  }

  close() {
    this.playing = false;
    this.sizes.disconnect();
    this.sight.disconnect();
    this.lights.removeEventListener("change", this.relight);
  }

  // ---- what the reader does

  toggle() {
    if (this.race.frames < 2) return;
    if (this.playing) {
      this.playing = false;
      this.tell();
    } else {
      if (this.frame >= this.race.frames - 1) this.frame = 0;
      Object.assign(this, { playing: true, held: 0 });
      this.run();
    }
    this.draw();
  }

  go(frame) {
    this.playing = false;
    this.frame = Math.min(this.race.frames - 1, Math.max(0, frame));
    this.draw();
  }

  key(event) {
    const inField = event.target === this.speed || event.target === this.loop;
    const { frames, steps } = this.race, at = this.frame / steps;
    const moves = { ArrowLeft: (Math.ceil(at - 1e-6) - 1) * steps, ArrowRight: (Math.floor(at + 1e-6) + 1) * steps, Home: 0, End: frames - 1 };
    if (inField || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && event.target !== this.button) this.toggle();
    else if (event.key in moves) this.go(moves[event.key]);
    else return;
    event.preventDefault();
    if (event.key !== " ") this.tell();
  }

  // ---- time

  run() {
    if (this.running) return;
    this.running = true;
    let before = performance.now();
    const tick = (now) => {
      if (!this.playing || !this.visible || !this.element.isConnected) {
        this.running = false;
        return;
      }
      this.advance(Math.min(0.1, Math.max(0, now - before) / 1000));  // a frame may have begun before it was asked for
      before = now;
      this.draw();
      window.requestAnimationFrame(tick);
    };
    window.requestAnimationFrame(tick);
  }

  advance(seconds) {
    const end = this.race.frames - 1;
    this.frame = Math.min(end, this.frame + seconds * this.race.fps * Number(this.speed.value));
    if (this.frame < end) return;
    this.held += seconds;
    if (!this.loop.checked) {
      this.playing = false;
      this.tell();
    } else if (this.held > this.race.hold_s) {
      Object.assign(this, { frame: 0, held: 0 });
    }
  }

  seen(visible) {
    this.visible = visible;
    if (visible && this.playing) this.run();
  }

  // ---- what is shown

  fit(anew = false) {
    const width = Math.floor(this.element.clientWidth);
    if (!this.race || !width || (!anew && width === this.width)) return;
    this.width = width;
    const { race } = this, ratio = race.height / race.width, tall = ratio >= 1;
    const needed = race.shown * ROW + AROUND, most = Math.max(tall ? HIGHEST.tall : HIGHEST.wide, Math.min(needed, 700));
    const height = Math.round(Math.min(most, Math.max(width * ratio, Math.min(needed, width * 1.4))));
    const across = Math.round(Math.min(width, tall ? Math.max(height / ratio, 340) : width));
    const dots = window.devicePixelRatio || 1;
    Object.assign(this.canvas, { width: Math.round(across * dots), height: Math.round(height * dots) });
    Object.assign(this.canvas.style, { width: `${across}px`, height: `${height}px` });
    const context = this.canvas.getContext("2d");
    context.setTransform(dots, 0, 0, dots, 0, 0);
    const style = getComputedStyle(this.element);
    const page = (name) => style.getPropertyValue(name).trim();
    const own = { background: page("--st-background-color"), text: page("--st-text-color") };
    const colours = race.follows && own.background && own.text ? { ...race.palette, ...own } : race.palette;
    this.canvas.style.background = colours.background;
    const kind = race.kind === "lines" ? Lines : Bars;
    this.picture = new kind(context, race, across, height, colours, page("--st-font") || "sans-serif");
    this.draw();
  }

  draw() {
    const { race } = this, moment = this.picture.draw(this.frame);
    const at = this.frame >= race.frames - 1 ? "again" : "play";
    this.label(this.playing ? "pause" : at);
    this.scrub.value = String(Math.round(this.frame));
    const said = `${epochText(moment.epoch)} of ${epochText(race.epochs.at(-1)).slice(6)}`;
    if (this.where.textContent !== said) this.where.textContent = said;
    this.scrub.setAttribute("aria-valuetext", said);
    if (this.playing && this.element.dataset.epoch === String(moment.epoch)) return;
    this.element.dataset.epoch = String(moment.epoch);
    this.element.dataset.order = JSON.stringify(this.best(moment).map((racer) => race.names[racer.i]));
  }

  label(name) {
    if (this.shown === name) return;
    this.shown = name;
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg"), path = document.createElementNS(icon.namespaceURI, "path");
    icon.setAttribute("viewBox", "0 0 14 14");
    icon.setAttribute("aria-hidden", "true");
    path.setAttribute("d", ICONS[name]);
    icon.append(path);
    this.button.replaceChildren(icon, SAID[name]);
  }

  best(moment) {
    return moment.racers.filter((racer) => racer.presence > 0).sort((a, b) => a.place - b.place || a.i - b.i);
  }

  // Says in words, for those who cannot see it, who leads now.
  tell() {
    const moment = this.race.moment(this.frame), first = this.best(moment)[0];
    const leads = first ? `: ${this.race.names[first.i]} leads with ${this.race.valueText(first.value)}` : "";
    this.told.textContent = epochText(moment.epoch) + leads;
  }
}
