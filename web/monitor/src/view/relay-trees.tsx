/** The ways that a room's media takes from worker to worker, drawn; it moves with the events. */

import { useState } from "preact/hooks";
import type { RelayTree, Room } from "../state/api.js";
import { count, workerName } from "../state/format.js";
import { NODE_HEIGHT, NODE_WIDTH, layOut } from "../state/tree-layout.js";

const MARGIN = 6;

export function RelayTrees({ room }: { room: Room }) {
  const [chosen, setChosen] = useState<string>();
  if (room.trees.length === 0) return <p class="empty">Nobody sends anything.</p>;
  const tree = room.trees.find((it) => it.id === chosen) ?? room.trees[0];
  return (
    <div class="trees">
      <ul class="tree-list" aria-label="What is sent">
        {room.trees.map((it) => (
          <li key={it.id}>
            <button aria-pressed={it === tree} onClick={() => setChosen(it.id)}>
              <b>{titleOf(it)}</b>
              <small>
                {it.relays === 0 ? "stays on its worker" : `over ${it.relays} ${it.relays === 1 ? "relay" : "relays"}`}
              </small>
            </button>
          </li>
        ))}
        {room.more > 0 && <li class="dim">and {count(room.more)} more</li>}
      </ul>
      {tree && <TreeDrawing tree={tree} />}
    </div>
  );
}

function TreeDrawing({ tree }: { tree: RelayTree }) {
  const drawing = layOut(tree.root);
  const [width, height] = [drawing.width + 2 * MARGIN, drawing.height + 2 * MARGIN];
  return (
    <div class="tree" tabIndex={0} role="region" aria-label="Drawing of the relays">
      <svg viewBox={`${-MARGIN} ${-MARGIN} ${width} ${height}`} width={width} height={height} role="img" aria-label={inWords(tree)}>
        {drawing.links.map((link) => (
          <g key={link.key}>
            <path class={`link ${link.status}`} d={link.path} />
            {link.status === "open" && <path class="flow" d={link.path} />}
          </g>
        ))}
        {drawing.nodes.map(({ key, node, x, y, depth }) => (
          <g key={key} class={`node ${depth === 0 ? "origin" : node.status}`} style={{ transform: `translate(${x}px, ${y}px)` }}>
            <title>{node.worker}</title>
            <rect width={NODE_WIDTH} height={NODE_HEIGHT} rx={10} />
            <text x={12} y={21} class="worker">
              {workerName(node.worker, node.server)}
            </text>
            <text x={12} y={39} class="server">
              {node.server.length > 20 ? `${node.server.slice(0, 19)}…` : node.server}
            </text>
            <text x={NODE_WIDTH - 12} y={21} class="number">
              {count(node.consumers)}
            </text>
            <text x={NODE_WIDTH - 12} y={39} class="unit">
              {node.consumers === 1 ? "consumer" : "consumers"}
            </text>
          </g>
        ))}
      </svg>
    </div>
  );
}

function titleOf(tree: RelayTree): string {
  const names = [...new Set(tree.producers.map((it) => it.name))];
  const kinds = [...new Set(tree.producers.map((it) => it.kind))];
  const shown = names.slice(0, 2).join(", ");
  const more = tree.count > tree.producers.length || names.length > 2 ? ` and others` : "";
  return `${shown}${more}: ${tree.count > kinds.length ? `${count(tree.count)} × ` : ""}${kinds.join(", ")}`;
}

function inWords(tree: RelayTree): string {
  const root = tree.root;
  const begin = `${titleOf(tree)} comes from ${workerName(root.worker, root.server)} of ${root.server}`;
  return tree.relays === 0 ? `${begin} and stays there` : `${begin} and is relayed to ${tree.relays} more`;
}
