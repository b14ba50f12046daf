// The line of a fault, and the word in it, marked until they are changed.

import { RangeSet, StateEffect, StateField } from "@codemirror/state";
import { Decoration, EditorView, GutterMarker, gutterLineClass } from "@codemirror/view";

// {line, start, end}: the line counts from 1, start and end count characters of it from 0; null: none
export const fault = StateEffect.define();
const LINE = Decoration.line({ class: "cm-fault-line", attributes: { "aria-invalid": "true" } });
const WORD = Decoration.mark({ class: "cm-fault-word" });
const NUMBER = new (class extends GutterMarker { elementClass = "cm-fault-number"; })();

function decorations(doc, found) {
  if (!found || found.line > doc.lines) return Decoration.none;
  const line = doc.line(found.line), from = line.from + Math.min(found.start, line.length), to = line.from + Math.min(found.end, line.length);
  return Decoration.set([LINE.range(line.from), ...(to > from ? [WORD.range(from, to)] : [])]);
}

const field = StateField.define({
  create: () => Decoration.none,
  update(held, change) {
    const told = change.effects.find((effect) => effect.is(fault));
    if (told) return decorations(change.state.doc, told.value);
    if (!change.docChanged || held === Decoration.none) return held;
    let touched = false;  // an edit in the marked line may have mended it
    held.between(0, change.startState.doc.length, (from) => {
      const line = change.startState.doc.lineAt(from);
      change.changes.iterChangedRanges((a, b) => { touched ||= a <= line.to && b >= line.from; });
    });
    return touched ? Decoration.none : held.map(change.changes);
  },
  provide: (self) => [
    EditorView.decorations.from(self),
    gutterLineClass.compute([self], (state) => {
      const numbers = [];
      state.field(self).between(0, state.doc.length, (from) => {
        const start = state.doc.lineAt(from).from;
        if (!numbers.length) numbers.push(NUMBER.range(start));
      });
      return RangeSet.of(numbers);
    }),
  ],
});
export const marked = field;
