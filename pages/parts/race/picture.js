// A race as a picture: drawn on a canvas as store/export/race draws a file, whose constants these are.
// Reads: a race in numbers, colours. Writes: a canvas; what users named is drawn as text.

const NAMES_SHARE = { tall: 0.38, wide: 0.28, lines: 0.24 };  // of the width, at most, for names
const BARS_SHARE = 0.45;                          // of it, for the bars, before words beside them are cut short
const THICKNESS = 0.74, THICKEST = 92;            // of the way from bar to bar; pixels of a 1280 x 720 picture
const STROKE = 3.2, THIN = 1.4;                   // pixels of that picture: a line, and one whose run has ended
const LONGEST_LEADER = 2.5;                       // rows, from the head of a line to its name
const SEEN_APART = [0.45, 0.8];                   // texts this many rows below a better one begin to show, and are whole
const SMALLEST = { unit: 0.6, letters: 11 };      // on a phone letters do not shrink with the picture

const between01 = (value) => Math.min(1, Math.max(0, value));

class Picture {
  constructor(context, race, width, height, colours, family) {
    Object.assign(this, { context, race, width, height, colours, family });
    const tall = [[9 / 16, 720], [1, 900], [16 / 9, 1280]], ratio = width / height;
    const [a, b] = ratio < 1 ? tall.slice(0, 2) : tall.slice(1);
    const along = between01((ratio - a[0]) / (b[0] - a[0]));
    const own = Math.min(width / (a[1] + (b[1] - a[1]) * along), height / (width > height ? 620 : 900));
    this.unit = Math.max(SMALLEST.unit, own);
    this.margin = Math.round(Math.min(30 * this.unit, width * 0.045));
    const sized = (pixels, bold) => ({ pixels: Math.max(SMALLEST.letters, pixels * this.unit), bold });
    this.faces = { title: sized(27, true), subtitle: sized(17), epoch: sized(34, true), ticks: sized(15), caption: sized(12.5) };
    for (const face of Object.values(this.faces)) face.cap = 0.73 * face.pixels;
    const lines = race.caption ? this.broken(race.caption, this.faces.caption, width - 2 * this.margin) : [];
    const { title, subtitle, epoch, ticks, caption } = this.faces;
    const head = Math.max(epoch.cap, title.cap + (race.subtitle ? subtitle.pixels * 1.5 : 0));
    const below = lines.length * caption.pixels * 1.4 + (lines.length ? 8 * this.unit : 0);
    this.captionLines = lines;
    this.top = this.margin + head + 22 * this.unit;
    this.foot = height - this.margin * 0.8 - below - ticks.pixels * (1.7 + (race.axis.words ? 1.5 : 0));
    this.pitch = (this.foot - this.top) / race.shown;
    this.gap = 10 * this.unit;
  }

  font(face) { this.context.font = `${face.bold ? 600 : 400} ${face.pixels}px ${this.family}`; }
  measure(text, face) { this.font(face); return this.context.measureText(text).width; }
  colour(racer) { return this.race.lit[racer] ? this.race.colours[racer] : this.colours.grey; }

  write(text, face, x, base, colour, side = "left", alpha = 1) {
    this.font(face);
    Object.assign(this.context, { fillStyle: colour, textAlign: side, textBaseline: "alphabetic", globalAlpha: alpha });
    this.context.fillText(text, x, base);
    this.context.globalAlpha = 1;
  }

  box(x, y, width, height, colour, alpha = 1) {
    Object.assign(this.context, { fillStyle: colour, globalAlpha: alpha });
    this.context.fillRect(x, y, width, height);
    this.context.globalAlpha = 1;
  }

  // Returns the text with its middle left out, so that it is at most so many pixels wide.
  elided(text, face, most) {
    if (this.measure(text, face) <= most) return text;
    const letters = [...text];
    const short = (n) => letters.slice(0, (n + 1) >> 1).join("").trimEnd() + "\u2026" + letters.slice(letters.length - (n >> 1)).join("").trimStart();
    let least = 0, longest = letters.length - 1;
    while (least < longest) {
      const size = (least + longest + 1) >> 1;
      if (this.measure(short(size), face) <= most) least = size; else longest = size - 1;
    }
    return short(least);
  }

  // Returns the text in at most two lines, broken between words.
  broken(text, face, most) {
    const words = text.split(/\s+/).filter(Boolean);
    let fit = 1;
    while (fit < words.length && this.measure(words.slice(0, fit + 1).join(" "), face) <= most) fit++;
    const lines = [words.slice(0, fit).join(" "), words.slice(fit).join(" ")].filter(Boolean);
    return lines.map((line) => this.elided(line, face, most));
  }

  around(moment) {
    const { race, margin, width, height, colours } = this, { title, subtitle, epoch, caption } = this.faces;
    const room = width - 2 * margin - this.measure(epochText(race.epochs.at(-1)), epoch) - 20 * this.unit;
    let base = margin + title.cap;
    if (race.title) this.write(this.elided(race.title, title, room), title, margin, base, colours.text);
    if (race.title) base += subtitle.pixels * 1.5;
    if (race.subtitle) this.write(this.elided(race.subtitle, subtitle, room), subtitle, margin, base, colours.muted);
    this.write(epochText(moment.epoch), epoch, width - margin, margin + epoch.cap, colours.text, "right");
    this.captionLines.forEach((line, k) => this.write(line, caption, margin,
      height - margin * 0.8 - (this.captionLines.length - 1 - k) * caption.pixels * 1.4, colours.muted));
  }

  axisWords(x, text) {
    const face = this.faces.ticks, base = this.foot + face.pixels * 2.9;
    if (text) this.write(this.elided(text, face, this.width - this.margin - x), face, x, base, this.colours.muted);
  }
}

// The best last: it lies on top.
const worstFirst = (racers) => [...racers].sort((a, b) => b.place - a.place || a.i - b.i);

class Bars extends Picture {
  constructor(...args) {
    super(...args);
    const { race } = this, wide = between01((this.width / this.height - 9 / 16) / (16 / 9 - 9 / 16));
    this.pitch = Math.min(this.pitch, THICKEST * this.unit / THICKNESS);
    this.foot = this.top + this.pitch * race.shown;
    this.face = { pixels: Math.max(9, Math.min(21 * this.unit, 0.66 * this.pitch)), bold: false };
    this.small = { pixels: Math.max(9, this.face.pixels * 0.72), bold: false };
    this.thick = THICKNESS * this.pitch;
    const share = NAMES_SHARE.tall + (NAMES_SHARE.wide - NAMES_SHARE.tall) * wide;
    this.names = race.names.map((name) => this.elided(name, this.face, share * this.width));
    this.x0 = this.margin + Math.max(...this.names.map((name) => this.measure(name, this.face))) + this.gap;
    const texts = race.extremes.map((value) => this.measure(race.valueText(value), this.face));
    const ended = race.ended.filter((e) => e !== null);
    for (this.short of [false, true]) {  // in a narrow picture most of the width belongs to the bars
      const ends = ended.map((e) => this.measure(endedText(e, this.short), this.small) + this.gap);
      this.x1 = this.width - this.margin - Math.max(...texts) - this.gap - Math.max(0, ...ends);
      if (this.x1 - this.x0 > BARS_SHARE * this.width) break;
    }
  }

  draw(frame) {
    const moment = this.race.moment(frame), { context, race } = this;
    context.clearRect(0, 0, this.width, this.height);
    this.ground();
    const seen = worstFirst(moment.racers.filter((r) => r.presence > 0 && r.place < race.shown + 1));
    context.save();
    context.beginPath();
    context.rect(0, 0, this.width, this.foot);
    context.clip();
    for (const racer of seen) this.bar(racer);
    context.restore();
    context.save();
    context.beginPath();
    context.rect(0, 0, this.width, this.foot + 0.3 * this.pitch);
    context.clip();
    seen.forEach((racer, k) => this.texts(racer, this.alpha(seen, k)));
    context.restore();
    this.around(moment);
    return moment;
  }

  ground() {
    const face = this.faces.ticks, line = Math.max(1, Math.round(this.unit));
    let free = -Infinity;
    for (const [value, text] of this.race.axis.ticks) {
      const x = this.x0 + this.race.share(value) * (this.x1 - this.x0), half = this.measure(text, face) / 2;
      this.box(Math.round(x), this.top, line, this.foot - this.top, this.colours.grid);
      if (x - half > free) {
        this.write(text, face, x, this.foot + face.pixels * 1.4, this.colours.muted, "center");
        free = x + half + 8 * this.unit;
      }
    }
    this.axisWords(this.x0, this.race.axis.words);
  }

  length(racer) { return Math.max(1, this.race.share(racer.value) * (this.x1 - this.x0)); }
  middle(racer) { return this.top + (racer.place - 0.5) * this.pitch; }

  bar(racer) {
    const top = this.middle(racer) - this.thick / 2, length = this.length(racer), torn = 14 * this.unit;
    this.box(this.x0, top, length, this.thick, this.colours.background);  // what is below does not shine through
    this.box(this.x0, top, length, this.thick, this.colour(racer.i), racer.presence);
    if (!this.race.axis.broken || length <= 3 * torn) return;
    const lean = this.thick * 0.175 + 1, stroke = Math.max(1.5, 2.2 * this.unit);
    Object.assign(this.context, { strokeStyle: this.colours.background, lineWidth: stroke });
    for (const at of [0.3, 0.7]) {
      const x = this.x0 + torn * (1 + at);
      this.context.beginPath();
      this.context.moveTo(x + lean, top - 1);
      this.context.lineTo(x - lean, top + this.thick + 1);
      this.context.stroke();
    }
  }

  texts(racer, alpha) {
    if (alpha <= 0) return;
    const base = this.middle(racer) + 0.365 * this.face.pixels, text = this.race.valueText(racer.value), length = this.length(racer);
    this.write(this.names[racer.i], this.face, this.x0 - this.gap, base, this.colours.text, "right", alpha);
    const x = this.x0 + length + 0.8 * this.gap;
    this.write(text, this.face, x, base, this.colours.text, "left", alpha);
    if (!racer.over) return;
    const said = endedText(this.race.ended[racer.i], this.short);
    this.write(said, this.small, x + this.measure(text, this.face) + this.gap, base, this.colours.muted, "left", alpha);
  }

  // How visible the texts of one of those seen are: of two in one place only those of the better one can be read.
  alpha(seen, k) {
    const better = seen.slice(k + 1).map((other) => seen[k].place - other.place);
    const clear = (Math.min(Infinity, ...better) - SEEN_APART[0]) / (SEEN_APART[1] - SEEN_APART[0]);
    const inside = (this.race.shown + 0.75 - seen[k].place) / 0.5;
    return between01(Math.min(clear, inside)) * seen[k].presence;
  }
}

class Lines extends Picture {
  constructor(...args) {
    super(...args);
    const { race, faces } = this;
    this.face = { pixels: Math.max(9, Math.min(18 * this.unit, 0.85 * this.pitch)), bold: false };
    this.names = race.names.map((name) => this.elided(name, this.face, NAMES_SHARE.lines * this.width));
    this.x0 = this.margin + Math.max(0, ...race.axis.ticks.map(([, text]) => this.measure(text, faces.ticks))) + this.gap;
    const values = race.extremes.map((value) => this.measure(race.valueText(value), this.face));
    const names = this.names.map((name) => this.measure(name, this.face));
    this.x1 = this.width - this.margin - Math.max(...names) - Math.max(...values) - 5 * this.gap;
  }

  draw(frame) {
    const moment = this.race.moment(frame), { context } = this;
    context.clearRect(0, 0, this.width, this.height);
    this.ground();
    const there = worstFirst(moment.racers.filter((r) => !Number.isNaN(r.value)));
    const ordered = there.sort((a, b) => this.race.lit[a.i] - this.race.lit[b.i]);
    context.save();
    context.beginPath();
    context.rect(0, this.top, this.width, this.foot + 1 - this.top);
    context.clip();
    for (const racer of ordered) this.course(racer, moment.at);
    context.restore();
    for (const racer of ordered) this.head(racer, this.x(moment.at));
    this.labels(there, this.x(moment.at));
    this.around(moment);
    return moment;
  }

  ground() {
    const { race, context } = this, face = this.faces.ticks, line = Math.max(1, Math.round(this.unit));
    for (const [value, text] of race.axis.ticks) {
      const y = Math.round(this.y(value));
      this.box(this.x0, y, this.x1 - this.x0, line, this.colours.grid);
      this.write(text, face, this.x0 - this.gap, y + face.cap / 2, this.colours.muted, "right");
    }
    let free = -Infinity;
    for (const epoch of race.epochTicks) {
      const text = epoch.toLocaleString("en-US"), x = this.across(epoch), half = this.measure(text, face) / 2;
      if (x - half > free) {
        this.write(text, face, x, this.foot + face.pixels * 1.4, this.colours.muted, "center");
        free = x + half + 6 * this.unit;
      }
    }
    this.axisWords(this.x0, [race.axis.words, "epochs from left to right"].filter(Boolean).join(" \u00b7 "));
    Object.assign(context, { lineJoin: "round", lineCap: "round" });
  }

  course(racer, at) {
    const { race, context } = this, whole = Math.floor(at), strokes = [Math.max(1.5, STROKE * this.unit), Math.max(1, THIN * this.unit)];
    const end = race.ended[racer.i] === null ? whole : Math.min(whole, race.epochs.indexOf(race.ended[racer.i]));
    const tip = [this.x(at), this.y(racer.value)];
    const path = (from, to, width) => {
      if (to < from) return;
      context.beginPath();
      for (let row = from; row <= to; row++) context.lineTo(this.x(row), this.y(race.own(row, racer.i)));
      if (to === whole) context.lineTo(...tip);
      Object.assign(context, { strokeStyle: this.colour(racer.i), lineWidth: width });
      context.stroke();
    };
    path(race.starts[racer.i], end, strokes[0]);
    if (end < whole) path(end, whole, strokes[1]);
  }

  head(racer, x) {
    const { context } = this;
    context.beginPath();
    context.arc(x, this.inside(this.y(racer.value)), Math.max(1.5, STROKE * this.unit) * 1.3, 0, 2 * Math.PI);
    context.fillStyle = this.colour(racer.i);
    context.fill();
  }

  inside(y) { return Math.min(this.foot, Math.max(this.top, y)); }

  labels(there, x) {
    const { race } = this, sign = race.lower ? -1 : 1;
    const best = [...there].sort((a, b) => a.place - b.place).slice(0, race.shown);
    const within = race.lower ? [-this.foot, -this.top] : [this.top, this.foot];
    const heads = best.map((r) => this.inside(this.y(r.value))), above = [];
    const slots = apart(heads.map((y) => sign * y), this.face.pixels * 1.22, ...within).map((y) => sign * y);
    best.forEach((racer, n) => {
      const k = Math.min(Math.max(0, racer.place - 1), slots.length - 1), low = Math.floor(k), high = Math.min(low + 1, slots.length - 1);
      const y = slots[low] + (slots[high] - slots[low]) * (k - low);
      const clear = between01((Math.min(Infinity, ...above.map((other) => Math.abs(other - y))) / this.face.pixels - 0.75) / 0.35);
      above.push(y);
      this.label(racer, [x, heads[n]], y, clear * racer.presence);
    });
  }

  label(racer, head, y, alpha) {
    if (alpha <= 0) return;
    const size = this.face.pixels, x = head[0] + 2 * this.gap + 0.8 * size, colour = this.colour(racer.i);
    const text = `${this.names[racer.i]}  ${this.race.valueText(racer.value)}`;
    if (Math.abs(y - head[1]) < LONGEST_LEADER * size) {  // longer ones only tangle
      this.stroke(head, [x - size, y], Math.max(1, THIN * this.unit), colour);
    }
    this.stroke([x - 0.8 * size, y], [x - 0.55 * size, y], 0.42 * size, colour);
    this.write(text, this.face, x, y + 0.365 * this.face.pixels, this.colours.text, "left", alpha);
  }

  stroke(from, to, width, colour) {
    this.context.beginPath();
    this.context.moveTo(...from);
    this.context.lineTo(...to);
    Object.assign(this.context, { strokeStyle: colour, lineWidth: width });
    this.context.stroke();
  }

  across(epoch) {
    const first = this.race.epochs[0], last = this.race.epochs.at(-1);
    return this.x0 + (this.x1 - this.x0) * (last > first ? (epoch - first) / (last - first) : 0);
  }

  x(at) {
    const row = Math.floor(at), { epochs } = this.race;
    return this.across(at > row ? epochs[row] + (epochs[row + 1] - epochs[row]) * (at - row) : epochs[row]);
  }

  y(value) { return this.foot - this.race.along(value) * (this.foot - this.top); }
}
