// What to write next: columns of the tables that the statement names, tables, names it makes itself, functions, keywords.

import { syntaxTree } from "@codemirror/language";

const NAMED = /\b(?:from|join)\s+(\w+)(?:\s+(?:as\s+)?(?!on\b|using\b|where\b|join\b|left\b|full\b|cross\b|group\b|order\b|limit\b)(\w+))?/gi;
const MADE = /(?:\bwith\s+|,\s*|\)\s*,\s*)(\w+)\s+as\s*\(/gi;
const ALIAS = /\bas\s+(\w+)/gi;
const TABLE_NEXT = /\b(?:from|join|describe|summarize)\s+\w*$/i;
const SILENT = /String|Comment|Quoted/;

const found = (text, pattern) => [...text.matchAll(pattern)];

export function completer({ tables, keywords, types, functions }) {
  const byName = new Map(tables.map((table) => [table.name, table]));
  const tableOptions = tables.map(({ name, meaning }) => ({ label: name, type: "table", detail: "table", info: meaning, boost: 3 }));
  const functionOptions = functions.map(({ name, call, meaning }) => ({
    label: name, type: "function", detail: call, info: meaning, apply: `${name}(`,
  }));

  const column = ({ name, unit, meaning }, where, boost) => ({
    label: name, type: "column", detail: unit || where, info: `${meaning}${unit ? ` (${unit})` : ""}; in ${where}`, boost,
  });

  function columns(names, boost) {
    const options = new Map();
    for (const name of names) {
      for (const entry of byName.get(name).columns) {
        const known = options.get(entry.name);
        if (known) known.where.push(name);
        else options.set(entry.name, { entry, where: [name] });
      }
    }
    return [...options.values()].map(({ entry, where }) => column(entry, where.join(", "), boost));
  }

  // alias or name -> table, of those that the statement reads from
  function read(text) {
    const pairs = found(text, NAMED).filter(([, table]) => byName.has(table.toLowerCase()));
    return new Map(pairs.flatMap(([, table, alias]) => [[table, table.toLowerCase()], ...(alias ? [[alias, table.toLowerCase()]] : [])]));
  }

  const like = (typed) => (word) => (typed && typed === typed.toLowerCase() ? word.toLowerCase() : word);

  return (context) => {
    if (SILENT.test(syntaxTree(context.state).resolveInner(context.pos, -1).name)) return null;
    const text = context.state.doc.toString(), sources = read(text);
    const dotted = context.matchBefore(/(\w+)\.(\w*)$/);
    if (dotted) {
      const [owner, part] = dotted.text.split("."), table = sources.get(owner) ?? (byName.has(owner) ? owner : null);
      return table ? { from: dotted.to - part.length, options: columns([table], 0), validFor: /^\w*$/ } : null;
    }
    const word = context.matchBefore(/\w+/);
    if (!word && !context.explicit) return null;
    const typed = word ? word.text : "";
    if (/^\d/.test(typed)) return null;
    const before = context.state.sliceDoc(Math.max(0, context.pos - 80), context.pos);
    const made = [...new Set(found(text, MADE).map(([, name]) => name))].map((label) => ({ label, type: "table", detail: "here", boost: 4 }));
    if (TABLE_NEXT.test(before)) return { from: word ? word.from : context.pos, options: [...tableOptions, ...made], validFor: /^\w*$/ };
    const named = [...new Set(sources.values())];
    const aliases = [...new Set(found(text, ALIAS).map(([, name]) => name))].filter((name) => name !== typed)
      .map((label) => ({ label, type: "column", detail: "here", boost: 1 }));
    const cased = like(typed);
    const words = [...keywords.map((label) => ({ label: cased(label), type: "keyword", boost: -1 })),
      ...types.map((label) => ({ label: cased(label), type: "type", boost: -2 }))];
    const options = [...columns(named.length ? named : [...byName.keys()], named.length ? 2 : 0), ...aliases, ...made,
      ...tableOptions, ...functionOptions, ...words];
    return { from: word ? word.from : context.pos, options: once(options), validFor: /^\w*$/ };
  };
}

// A name is offered once, as the first that has it: a column before the function of the same name.
function once(options) {
  const seen = new Set();
  return options.filter(({ label, type }) => {
    const key = type === "function" ? `${label}(` : label.toLowerCase();
    return !seen.has(key) && seen.add(key);
  });
}
