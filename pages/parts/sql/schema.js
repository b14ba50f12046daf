// The tables and their columns, to read and to press: a name that is pressed goes to where the statement is being written.
// Reads: what editor.py sends, window.kdSql. Writes: its own element; tells the page a name where no editor of ours is open.

const NARROW = "(max-width: 640px)";  // there it is closed until somebody wants it

export default function schema({ data, parentElement, setTriggerValue }) {
  const element = parentElement.querySelector(".schema"), shared = (globalThis.kdSql ??= {});
  if (!element.dataset.ready) {
    element.open = !window.matchMedia(NARROW).matches;
    element.dataset.ready = "true";
    element.querySelector(".find").addEventListener("input", (event) => sift(element, event.target.value));
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      event.preventDefault();  // inside a summary it would also fold
      if (shared.insert) shared.insert(button.textContent);
      else element.pick(button.textContent);
    });
  }
  element.pick = (name) => setTriggerValue("pick", name);
  const stamp = JSON.stringify(data);
  if (element.stamp === stamp) return;
  element.stamp = stamp;
  const open = new Set([...element.querySelectorAll(".table[open]")].map((table) => table.dataset.name));
  element.querySelector(".tables").replaceChildren(...data.tables.map((table) => drawn(table, open.has(table.name))));
  sift(element, element.querySelector(".find").value);
}

function made(tag, name, text = "") {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

function button(name, meaning) {
  const element = made("button", "name", name);
  element.type = "button";
  element.title = `Insert ${name}: ${meaning}`;
  return element;
}

function drawn({ name, meaning, rows, columns }, open) {
  const table = made("details", "table"), head = made("summary", "");
  table.dataset.name = name;
  table.open = open;
  head.append(button(name, meaning), made("span", "rows", rows === null ? "" : `${rows.toLocaleString("en")} ${rows === 1 ? "row" : "rows"}`));
  const list = document.createElement("ul");
  list.append(...columns.map((column) => {
    const item = document.createElement("li"), line = made("div", "column");
    item.dataset.text = `${column.name} ${column.unit} ${column.meaning}`.toLowerCase();
    line.append(button(column.name, column.meaning), made("span", "unit", column.unit));
    item.append(line, made("p", "meaning", column.meaning));
    return item;
  }));
  table.append(head, made("p", "about", meaning), list);
  return table;
}

// Leaves the columns that hold all the words; their tables unfold, the others hide.
function sift(element, wanted) {
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  let left = 0;
  for (const table of element.querySelectorAll(".table")) {
    let here = 0;
    for (const item of table.querySelectorAll("li")) {
      item.hidden = !words.every((word) => item.dataset.text.includes(word));
      here += !item.hidden;
    }
    table.hidden = here === 0;
    if (words.length) {
      table.dataset.before ??= String(table.open);
      table.open = here > 0;
    } else if (table.dataset.before) {
      table.open = table.dataset.before === "true";
      delete table.dataset.before;
    }
    left += here;
  }
  element.querySelector(".none").textContent = left ? "" : "No column is called or described like this.";
}
