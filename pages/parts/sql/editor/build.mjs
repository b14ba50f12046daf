// Makes codemirror.js from src/ (one minified file, with a sum of its sources at its head that a test compares) and LICENCES.txt.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const sum = createHash("sha256");
for (const name of ["package-lock.json", ...readdirSync("src").sort().map((name) => `src/${name}`)]) sum.update(readFileSync(name));
const made = await build({
  entryPoints: ["src/index.js"], bundle: true, minify: true, format: "esm", target: "es2022", legalComments: "none", write: false,
  metafile: true,
});
const head = "/* CodeMirror 6, MIT licence: see LICENCES.txt. Made by npm run build; do not edit. sources: ";
writeFileSync("codemirror.js", `${head}${sum.digest("hex")} */\n${made.outputFiles[0].text}`);

const inside = new Set(Object.keys(made.metafile.inputs).map((path) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1]));
const texts = new Map();  // text of a licence -> packages under it
for (const name of [...inside].filter(Boolean).sort()) {
  const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`)), text = readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim();
  texts.set(text, [...(texts.get(text) ?? []), `${name} ${version}`]);
}
const parts = [...texts].map(([text, names]) => `${names.join("\n")}\n\n${text}\n`);
writeFileSync("LICENCES.txt", `codemirror.js contains:\n\n${parts.join(`\n${"-".repeat(80)}\n\n`)}`);
