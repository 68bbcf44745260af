// Writes src/protocol/messages.ts from the JSON Schemas of all messages that a client sends or receives.
// With --check it only compares, and fails on a difference.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { compile } from "json-schema-to-typescript";
import { clientSchemas } from "./client-schemas.mjs";

const output = new URL("../src/protocol/messages.ts", import.meta.url);
const definitions = {};
const members = [];
for (const { type, name, schema } of await clientSchemas()) {
  for (const [inner, definition] of Object.entries(schema.$defs ?? {})) definitions[inner] ??= definition;
  delete schema.$defs;
  delete schema.$schema;
  delete schema.$id;
  definitions[name] = { ...schema, title: name };
  members.push([type, name]);
}
delete definitions.ChannelCall;
const root = {
  title: "MessageData",
  description: "The data of each message, by the message's CloudEvents type.",
  type: "object",
  additionalProperties: false,
  required: members.map(([type]) => type),
  properties: Object.fromEntries(members.map(([type, title]) => [type, { $ref: `#/$defs/${title}` }])),
  $defs: definitions,
};
for (const definition of Object.values(definitions)) {
  if (definition.properties) delete definition.properties.channel;
}
const text = await compile(root, "MessageData", {
  additionalProperties: false,
  bannerComment: "// Generated from schemas/ by scripts/generate-types.mjs; do not edit.",
  format: false,
  ignoreMinAndMaxItems: true,
  strictIndexSignatures: false,
});
if (process.argv.includes("--check")) {
  if ((await readFile(output, "utf8").catch(() => "")) !== text) {
    console.error(`${fileURLToPath(output)} differs from schemas/: run npm run types`);
    process.exit(1);
  }
} else {
  await writeFile(output, text);
}
