// The desk where a statement is written: a plain field at once, CodeMirror in its place as soon as that has arrived.
// Reads: what editor.py sends, window.kdSql. Writes: its own element; tells the page the text when the focus leaves it.

const shared = (globalThis.kdSql ??= {});
shared.ready ??= shared.open ? Promise.resolve() : new Promise((arrived) => { shared.arrived = arrived; });
const desks = new WeakMap();
const MAC = /Mac|iPhone|iPad/.test(navigator.platform);

export default function desk({ data, parentElement, setStateValue, setTriggerValue }) {
  const element = parentElement.querySelector(".desk");
  if (!desks.has(element)) desks.set(element, new Desk(element, data));
  desks.get(element).show(data, setStateValue, setTriggerValue);
  return () => {
    desks.get(element)?.close();
    desks.delete(element);
  };
}

class Desk {
  constructor(element, data) {
    this.element = element;
    this.bare = element.querySelector(".bare");
    element.querySelector(".keys").textContent = `${MAC ? "Cmd" : "Ctrl"}+Enter runs it. Esc, then Tab leaves the editor.`;
    this.bare.setAttribute("aria-label", data.label);
    this.bare.setAttribute("aria-describedby", "keys");
    this.pen = {  // the plain field, as CodeMirror would be used
      text: () => this.bare.value,
      put: (text) => { this.bare.value = text; },
      insert: (piece) => this.bare.setRangeText(piece, this.bare.selectionStart, this.bare.selectionEnd, "end"),
      mark: () => {},
      focus: () => this.bare.focus(),
      close: () => {},
    };
    this.bare.addEventListener("blur", () => this.tell());
    this.bare.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.run();
    });
    shared.insert = (piece) => this.insert(piece);
    shared.ready.then(() => this.grow());
  }

  // Takes over the text that the page gives when it is a new one; what is being written here is left alone otherwise.
  show(data, setStateValue, setTriggerValue) {
    Object.assign(this, { setStateValue, setTriggerValue, label: data.label });
    if (data.stamp !== this.stamp) {
      this.stamp = data.stamp;
      this.told = data.text;
      if (this.pen.text() !== data.text) this.pen.put(data.text);
    }
    const fault = JSON.stringify(data.fault);
    if (fault !== this.fault) {
      this.fault = fault;
      this.pen.mark(data.fault);
    }
  }

  grow() {
    if (this.closed) return;
    const place = this.element.querySelector(".place"), writing = this.element.getRootNode().activeElement === this.bare;
    const text = this.pen.text();
    place.hidden = false;
    this.bare.hidden = true;
    this.pen = shared.open({
      parent: place, root: this.element.getRootNode(), text, label: this.label, described: "keys",
      changed: () => {}, left: () => this.tell(), run: () => this.run(),
    });
    if (this.fault) this.pen.mark(JSON.parse(this.fault));
    if (writing) this.pen.focus();
    this.element.dataset.ready = "true";
  }

  tell() {
    const text = this.pen.text();
    if (text === this.told || this.closed) return;
    this.told = text;
    this.setStateValue("text", { stamp: this.stamp, text });
  }

  run() {
    this.told = this.pen.text();
    this.setTriggerValue("run", this.told);
  }

  insert(piece) {
    this.pen.insert(piece);
    if (window.matchMedia("(pointer: fine)").matches) this.pen.focus();
    else this.tell();
  }

  close() {
    this.closed = true;
    this.pen.close();
    shared.insert = null;
  }
}
