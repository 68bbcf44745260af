import { expect, test } from "vitest";
import { withParams, type TreeNode } from "../src/state/api.js";
import { bitrate, bytes, seconds, workerName } from "../src/state/format.js";
import { NODE_HEIGHT, NODE_WIDTH, layOut } from "../src/state/tree-layout.js";
import { windowOf } from "../src/state/window.js";

const node = (worker: string, ...children: TreeNode[]): TreeNode => ({ server: "s1", worker, status: "open", consumers: 1, children });

test("parameters that are not set are left out", () => {
  expect(withParams("log", { room: "a b", peer: "", seq: null, problems: false, limit: 5 })).toBe("log?room=a+b&limit=5");
  expect(withParams("fleet", { seq: null })).toBe("fleet");
});

test("numbers have a unit that fits", () => {
  expect(bitrate(1_500_000)).toBe("1.5 Mbit/s");
  expect(bitrate(null)).toBe("–");
  expect(bytes(13_400_000)).toBe("13 MB");
  expect(seconds(0.0004)).toBe("0.4 ms");
  expect(workerName("server-1-0-b96d7e", "server-1")).toBe("worker 0");
  expect(workerName("blue", "server-1")).toBe("blue");
});

test("a relay tree is drawn from left to right, without overlaps", () => {
  const drawing = layOut(node("a", node("b", node("d"), node("e")), node("c")));
  expect(drawing.nodes.map((it) => it.node.worker).sort()).toEqual(["a", "b", "c", "d", "e"]);
  expect(drawing.links).toHaveLength(4);
  for (const one of drawing.nodes) {
    expect(one.y).toBeGreaterThanOrEqual(0);
    for (const other of drawing.nodes) {
      if (one === other) continue;
      expect(Math.abs(one.x - other.x) >= NODE_WIDTH || Math.abs(one.y - other.y) >= NODE_HEIGHT).toBe(true);
    }
  }
});

test("of a long list only what is seen is drawn", () => {
  expect(windowOf(0, 600, 40, 10_000)).toEqual([0, 23]);
  const [first, last] = windowOf(200_000, 600, 40, 10_000);
  expect(first).toBe(4_992);
  expect(last - first).toBeLessThan(40);
  expect(windowOf(0, 600, 40, 3)).toEqual([0, 3]);
});
