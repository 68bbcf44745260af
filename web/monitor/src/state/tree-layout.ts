/** Where each worker of a relay tree is drawn: the origin at the left, what it relays to at its right. Pure. */

import { hierarchy, tree } from "d3-hierarchy";
import type { TreeNode } from "./api.js";

export const NODE_WIDTH = 152;
export const NODE_HEIGHT = 52;
const GAP_X = 56;
const GAP_Y = 18;

export interface PlacedNode {
  readonly key: string;
  readonly node: TreeNode;
  readonly x: number;
  readonly y: number;
  readonly depth: number;
}

export interface PlacedLink {
  readonly key: string;
  readonly path: string;
  readonly status: string;
}

export interface Drawing {
  readonly nodes: readonly PlacedNode[];
  readonly links: readonly PlacedLink[];
  readonly width: number;
  readonly height: number;
}

export function layOut(root: TreeNode): Drawing {
  const placed = tree<TreeNode>().nodeSize([NODE_HEIGHT + GAP_Y, NODE_WIDTH + GAP_X])(hierarchy(root, (node) => [...node.children]));
  const all = placed.descendants();
  const top = Math.min(...all.map((it) => it.x));
  const nodes = all.map((it) => ({
    key: `${it.data.server}/${it.data.worker}`,
    node: it.data,
    x: it.y,
    y: it.x - top,
    depth: it.depth,
  }));
  const links = placed.links().map(({ source, target }) => {
    const x1 = source.y + NODE_WIDTH;
    const y1 = source.x - top + NODE_HEIGHT / 2;
    const x2 = target.y;
    const y2 = target.x - top + NODE_HEIGHT / 2;
    const middle = (x1 + x2) / 2;
    return {
      key: `${source.data.worker}>${target.data.worker}`,
      path: `M${x1},${y1}C${middle},${y1} ${middle},${y2} ${x2},${y2}`,
      status: target.data.status,
    };
  });
  return {
    nodes,
    links,
    width: Math.max(...nodes.map((it) => it.x)) + NODE_WIDTH,
    height: Math.max(...nodes.map((it) => it.y)) + NODE_HEIGHT,
  };
}
