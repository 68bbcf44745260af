// Parses an AsyncAPI document with AsyncAPI's own parser; prints what is wrong, and fails on an error.
import { Parser, fromFile } from "@asyncapi/parser";

const { document, diagnostics } = await fromFile(new Parser(), process.argv[2]).parse();
const found = diagnostics.map(({ severity, code, path, message }) => ({ severity, code, path: path.join("."), message }));
for (const problem of found) console.error(JSON.stringify(problem));
if (!document || found.some(({ severity }) => severity === 0)) process.exit(1);
console.log(JSON.stringify({ version: document.version(), channels: document.channels().length, messages: document.messages().length }));
