// Builds the packages that applications install, packs them as npm would, and checks what is in them: entry points, types, files.
// Run by `npm run shape` in web/, which sets npm_execpath.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { formatMessage } from "publint/utils";

// The packages are modules only: what `require` or TypeScript's resolution of before 2019 would find in them is no matter.
const IGNORED = new Set(["node10", "node16-cjs"]);

const folder = mkdtempSync(join(tmpdir(), "packages-"));
let problems = 0;
try {
  for (const name of ["sdk", "react"]) {
    const directory = new URL(`../../${name}/`, import.meta.url).pathname;
    const npm = (...args) => execFileSync(process.execPath, [process.env.npm_execpath, "--silent", ...args], { cwd: directory, encoding: "utf8" });
    npm("run", "build");
    const bytes = Uint8Array.from(readFileSync(join(folder, npm("pack", "--pack-destination", folder).trim().split("\n").at(-1))));
    const { messages, pkg } = await publint({ pack: { tarball: bytes.buffer }, strict: true });
    const { problems: wrong } = await checkPackage(createPackageFromTarballData(bytes));
    const found = [
      ...messages.map((message) => formatMessage(message, pkg)),
      ...wrong.filter(({ resolutionKind }) => !IGNORED.has(resolutionKind)).map((problem) => JSON.stringify(problem)),
    ];
    for (const text of found) console.error(`${pkg.name}: ${text}`);
    problems += found.length;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = problems ? 1 : 0;
