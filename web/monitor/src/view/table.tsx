/** A table of any length: only the rows that are seen are in the document. */

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { windowOf } from "../state/window.js";

export interface Column {
  readonly name: string;
  /** A track of CSS grid. */
  readonly width: string;
  readonly align?: "end";
}

interface Props {
  readonly label: string;
  readonly columns: readonly Column[];
  readonly total: number;
  readonly rowHeight: number;
  /** Its cells; `undefined`: it is not there yet. */
  readonly row: (index: number) => { key: string; class?: string; cells: readonly ComponentChildren[]; onOpen?: () => void; current?: boolean } | undefined;
  readonly onLook?: (first: number) => void;
  readonly empty: string;
}

export function Table({ label, columns, total, rowHeight, row, onLook, empty }: Props) {
  const body = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  useLayoutEffect(() => {
    const element = body.current;
    if (!element) return;
    const measure = () => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const [first, last] = windowOf(view.top, view.height, rowHeight, total);
  useLayoutEffect(() => onLook?.(first), [first]);
  const template = columns.map((it) => it.width).join(" ");
  return (
    <div
      class="table"
      role="table"
      aria-label={label}
      aria-rowcount={total + 1}
      ref={body}
      tabIndex={0}
      onScroll={(event) => setView({ top: event.currentTarget.scrollTop, height: event.currentTarget.clientHeight })}
    >
      <div class="head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: template }}>
        {columns.map((it) => (
          <span key={it.name} role="columnheader" class={it.align ?? ""}>
            {it.name}
          </span>
        ))}
      </div>
      <div class="rows" role="rowgroup" style={{ height: `${total * rowHeight}px` }}>
        {Array.from({ length: last - first }, (_, offset) => first + offset).map((index) => {
          const shown = row(index);
          return (
            <div
              key={shown?.key ?? index}
              role="row"
              aria-rowindex={index + 2}
              class={`row ${shown?.class ?? ""} ${shown?.current ? "current" : ""}`}
              style={{ gridTemplateColumns: template, height: `${rowHeight}px`, transform: `translateY(${index * rowHeight}px)` }}
              onClick={shown?.onOpen}
            >
              {(shown?.cells ?? columns.map(() => <span class="ghost" />)).map((cell, column) => (
                <span key={columns[column]?.name} role="cell" class={columns[column]?.align ?? ""}>
                  {cell}
                </span>
              ))}
            </div>
          );
        })}
      </div>
      {total === 0 && <p class="empty">{empty}</p>}
    </div>
  );
}
