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
/** On a stage that is taller than wide, as a phone's, both sides of a picture may be cut off until it is a square. */
const UPRIGHT_RATIO = 1;

/** The grid for `count` tiles on a stage of this size; below the smallest tile the stage scrolls. */
export function fitGrid(count: number, stageWidth: number, stageHeight: number): Grid {
  let best: Grid = { columns: 1, width: 0, height: 0 };
  const narrowest = stageHeight > stageWidth ? UPRIGHT_RATIO : RATIO;
  for (let columns = 1; columns <= Math.max(1, count); columns++) {
    const rows = Math.ceil(count / columns);
    const byWidth = (stageWidth - GAP * (columns - 1)) / columns;
    const tallest = (stageHeight - GAP * (rows - 1)) / rows;
    const width = Math.floor(Math.min(byWidth, tallest * RATIO));
    const height = Math.floor(Math.min(tallest, width / narrowest));
    if (width * height > best.width * best.height) best = { columns, width, height };
  }
  if (best.width >= SMALLEST_WIDTH || count === 0) return best;
  const columns = Math.max(1, Math.floor((stageWidth + GAP) / (SMALLEST_WIDTH + GAP)));
  const width = Math.floor((stageWidth - GAP * (columns - 1)) / columns);
  return { columns, width, height: Math.floor(width / RATIO) };
}
