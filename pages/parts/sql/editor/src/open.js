// An editor in an element: highlighting, completion, keys, the mark of a fault.

import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { EditorState, Prec } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, highlightActiveLineGutter, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

import { completer } from "./complete.js";
import { dialect } from "./dialect.js";
import { fault, marked } from "./fault.js";

const ink = (name) => `var(--st-${name}-text-color)`;
const COLOURS = HighlightStyle.define([
  { tag: tags.keyword, color: ink("blue"), fontWeight: "600" },
  { tag: [tags.string, tags.special(tags.string)], color: ink("green") },
  { tag: [tags.number, tags.bool, tags.null], color: ink("orange") },
  { tag: [tags.comment, tags.lineComment, tags.blockComment], color: ink("gray"), fontStyle: "italic" },
  { tag: [tags.typeName, tags.standard(tags.name)], color: ink("violet") },
]);

// Returns open({parent, root, text, label, described, changed, left, run}): puts an editor into `parent` and returns what can be
// done with it. `changed()` is called after each change, `left()` when the focus leaves it, `run()` on Ctrl-Enter or Cmd-Enter.
export function opener(vocabulary) {
  const language = dialect(vocabulary);
  const always = [
    lineNumbers(), highlightActiveLineGutter(), highlightActiveLine(), history(), drawSelection(), indentOnInput(),
    bracketMatching(), closeBrackets(), language.extension, syntaxHighlighting(COLOURS), EditorView.lineWrapping, marked,
    autocompletion({ override: [completer(vocabulary)], icons: false, maxRenderedOptions: 60 }),
    keymap.of([{ key: "Tab", run: acceptCompletion }, ...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap,
      ...completionKeymap, indentWithTab]),
  ];
  return ({ parent, root, text, label, described, changed, left, run }) => {
    const own = [
      Prec.highest(keymap.of([{ key: "Mod-Enter", run: () => { run(); return true; } }])),
      EditorView.updateListener.of((update) => { if (update.docChanged) changed(); }),
      EditorView.domEventHandlers({ blur: () => { left(); } }),
      EditorView.contentAttributes.of({ "aria-label": label, "aria-describedby": described }),
    ];
    const state = (doc) => EditorState.create({ doc, extensions: [own, always] });
    const view = new EditorView({ parent, root, state: state(text) });
    return {
      text: () => view.state.doc.toString(),
      put: (doc) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: doc }, selection: { anchor: 0 },
        effects: EditorView.scrollIntoView(0) }),
      insert: (piece) => {
        const { from, to } = view.state.selection.main, before = view.state.sliceDoc(Math.max(0, from - 1), from);
        const said = (/[\w)"']/.test(before) ? " " : "") + piece;
        view.dispatch({ changes: { from, to, insert: said }, selection: { anchor: from + said.length }, scrollIntoView: true });
      },
      mark: (found) => view.dispatch({ effects: fault.of(found) }),
      focus: () => view.focus(),
      close: () => view.destroy(),
    };
  };
}
