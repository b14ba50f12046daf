// DuckDB's SQL as CodeMirror highlights it: PostgreSQL's words, and those that editor.py sends.

import { PostgreSQL, SQLDialect } from "@codemirror/lang-sql";

export function dialect({ tables, keywords, types, functions }) {
  const words = new Set(keywords.join(" ").toLowerCase().split(" "));
  const calls = functions.map(({ name }) => name).filter((name) => !words.has(name));
  const names = new Set([...calls, ...tables.flatMap(({ name, columns }) => [name, ...columns.map((column) => column.name)])]);
  const known = PostgreSQL.spec.keywords.split(" ").filter((word) => !names.has(word));
  return SQLDialect.define({
    ...PostgreSQL.spec,
    keywords: [...new Set([...known, ...words])].join(" "),
    builtin: calls.join(" "),
    types: `${PostgreSQL.spec.types} ${types.join(" ").toLowerCase()}`,
    identifierQuotes: '"',
    caseInsensitiveIdentifiers: true,
  });
}
