// The JSON Schemas of all messages that a client sends or receives, each with the name of its type.
import { readFile, readdir } from "node:fs/promises";

const schemas = new URL("../../../schemas/", import.meta.url);
const wanted = /^(intent|result|query|answer|event)\.[a-z-]+\.v1\.json$/;
const internal = /^(intent\.channel|result\.channel|query\.channel|answer\.(inventory|ok|pipe-connected|producer-carried)|event\.(server|worker|load)-)/;

export async function clientSchemas() {
  const files = (await readdir(schemas)).filter((name) => wanted.test(name) && !internal.test(name)).sort();
  return Promise.all(
    files.map(async (file) => {
      const schema = JSON.parse(await readFile(new URL(file, schemas), "utf8"));
      const [kind, action] = file.split(".");
      const suffix = { intent: "Intent", result: "Result", query: "", answer: "Answer", event: "" }[kind];
      return { type: `mafalda.${kind}.${action}.v1`, name: schema.title.replace(/(Result|Answer)$/, "") + suffix, schema };
    }),
  );
}
