/** How tiles fill a stage: the number of columns that makes them largest. No DOM. */

export interface Grid {
  readonly columns: number;
  /** Of one tile, in CSS pixels. */
  readonly width: number;
  readonly height: number;
}

/** Between tiles, in CSS pixels. */
export const GAP = 10;
const SMALLEST_WIDTH = 150;
const RATIO = 16 / 9;

/** The grid for `count` tiles on a stage of this size; below the smallest tile the stage scrolls. */
export function fitGrid(count: number, stageWidth: number, stageHeight: number): Grid {
  let best: Grid = { columns: 1, width: 0, height: 0 };
  for (let columns = 1; columns <= Math.max(1, count); columns++) {
    const rows = Math.ceil(count / columns);
    const byWidth = (stageWidth - GAP * (columns - 1)) / columns;
    const byHeight = ((stageHeight - GAP * (rows - 1)) / rows) * RATIO;
    const width = Math.floor(Math.min(byWidth, byHeight));
    if (width > best.width) best = { columns, width, height: Math.floor(width / RATIO) };
  }
  if (best.width >= SMALLEST_WIDTH || count === 0) return best;
  const columns = Math.max(1, Math.floor((stageWidth + GAP) / (SMALLEST_WIDTH + GAP)));
  const width = Math.floor((stageWidth - GAP * (columns - 1)) / columns);
  return { columns, width, height: Math.floor(width / RATIO) };
}
