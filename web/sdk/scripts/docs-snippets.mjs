// Makes one module of all TypeScript snippets of docs/browser-sdk.md, in their order, for the type checker.
import { mkdir, readFile, writeFile } from "node:fs/promises";

const guide = await readFile(new URL("../../../docs/browser-sdk.md", import.meta.url), "utf8");
const snippets = [...guide.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code]) => code);
if (snippets.length === 0) throw new Error("docs/browser-sdk.md has no snippets");
const lines = snippets.join("\n").split("\n");
const imports = lines.filter((line) => line.startsWith("import ")).map((line) => line.replace('"mafalda-client"', '"../src/index.js"'));
const body = lines.filter((line) => !line.startsWith("import "));
const folder = new URL("../snippets/", import.meta.url);
await mkdir(folder, { recursive: true });
await writeFile(new URL("browser-sdk.ts", folder), [...imports, ...body].join("\n"));
