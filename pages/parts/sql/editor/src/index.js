// The bundle: CodeMirror 6 with DuckDB's words, handed to the desk that waits for it (../desk.js).
// Reads: the vocabulary that editor.py sends. Writes: window.kdSql, one object of this page. Never: the network.

import { opener } from "./open.js";

export default function ({ data }) {
  const shared = (globalThis.kdSql ??= {});
  if (shared.open) return;
  shared.open = opener(data);
  shared.arrived?.();
}
