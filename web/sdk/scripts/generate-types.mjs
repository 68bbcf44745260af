// Writes src/protocol/messages.ts from the JSON Schemas of all messages that a client sends or receives.
// With --check it only compares, and fails on a difference.
import { readFile, readdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { compile } from "json-schema-to-typescript";

const schemas = new URL("../../../schemas/", import.meta.url);
const output = new URL("../src/protocol/messages.ts", import.meta.url);
const wanted = /^(intent|result|query|answer|event)\.[a-z-]+\.v1\.json$/;
const internal = /^(intent\.channel|result\.channel|query\.channel|answer\.(inventory|ok|pipe-connected|producer-carried)|event\.(server|worker|load)-)/;

const files = (await readdir(schemas)).filter((name) => wanted.test(name) && !internal.test(name)).sort();
const definitions = {};
const members = [];
for (const file of files) {
  const schema = JSON.parse(await readFile(new URL(file, schemas), "utf8"));
  for (const [name, definition] of Object.entries(schema.$defs ?? {})) definitions[name] ??= definition;
  delete schema.$defs;
  delete schema.$schema;
  delete schema.$id;
  const [kind, action] = file.split(".");
  const title = schema.title.replace(/(Result|Answer)$/, "") + { intent: "Intent", result: "Result", query: "", answer: "Answer", event: "" }[kind];
  definitions[title] = { ...schema, title };
  members.push([`mafalda.${kind}.${action}.v1`, title]);
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
