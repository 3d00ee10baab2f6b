// node mermaid.mjs NODE_MODULES < charts: a JSON list of Mermaid texts -> a JSON list of null or what its parser said.
import { createRequire } from "node:module";
import fs from "node:fs";
import { pathToFileURL } from "node:url";

const modules = process.argv[2];
const { JSDOM } = createRequire(`${modules}/`)("jsdom");
// Its sanitizer wants a document.
globalThis.window = new JSDOM("").window;
globalThis.document = globalThis.window.document;
const { default: mermaid } = await import(pathToFileURL(`${modules}/mermaid/dist/mermaid.core.mjs`));

const told = [];
for (const chart of JSON.parse(fs.readFileSync(0, "utf8"))) {
  try {
    const { diagramType } = await mermaid.parse(chart);
    told.push(diagramType === "xychart" ? null : diagramType);
  } catch (error) {
    told.push(String(error.message ?? error));
  }
}
console.log(JSON.stringify(told));
