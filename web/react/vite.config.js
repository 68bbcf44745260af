import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { alias: { "mafalda-client": fileURLToPath(new URL("../sdk/src/index.ts", import.meta.url)) } },
});
