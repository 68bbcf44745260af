/** The pictures of the call: a grid of everybody, or one large with the others beside it. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { activeSpeaker, people, sharer } from "../state/call.js";
import { fitGrid, GAP } from "../state/layout.js";
import { layout, pinned } from "../state/view.js";
import { Tile, type TileProps } from "./tile.js";

export function Stage() {
  return sharer.value || layout.value === "speaker" ? <Speaker /> : <Grid />;
}

function Grid() {
  const stage = useRef<HTMLDivElement>(null);
  const size = useSignal({ width: 0, height: 0 });
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      if (entry) size.value = { width: entry.contentRect.width, height: entry.contentRect.height };
    });
    if (stage.current) observer.observe(stage.current);
    return () => observer.disconnect();
  }, []);
  const { width, height, columns } = fitGrid(people.value.length, size.value.width, size.value.height);
  return (
    <div class="stage grid" ref={stage}>
      <div class="grid-tiles" style={{ width: `${columns * width + (columns - 1) * GAP}px` }}>
        {people.value.map((person) => (
          <Tile key={person.id} person={person} what="camera" style={{ width: `${width}px`, height: `${height}px` }} />
        ))}
      </div>
      {people.value.length === 1 && <p class="alone">Nobody else is here yet. Send them the address of this page.</p>}
    </div>
  );
}

function Speaker() {
  const shown = sharer.value;
  const others = people.value.filter((person) => !person.isSelf);
  const main: TileProps | undefined = shown
    ? { person: shown, what: "screen" }
    : (() => {
        const person = people.value.find((it) => it.id === pinned.value) ?? others.find((it) => it.id === activeSpeaker.value) ?? others[0] ?? people.value[0];
        return person && { person, what: "camera" };
      })();
  const strip = people.value.filter((person) => main?.what === "screen" || person.id !== main?.person.id);
  return (
    <div class="stage speaker">
      <div class="speaker-main">{main && <Tile key={`${main.person.id}-${main.what}`} {...main} />}</div>
      {strip.length > 0 && (
        <div class="strip" role="list" aria-label="Everybody else" tabIndex={0}>
          {strip.map((person) => (
            <div role="listitem" key={person.id}>
              <Tile person={person} what="camera" />
            </div>
          ))}
        </div>
      )}
    </div>
  );
}
