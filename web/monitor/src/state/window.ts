/** Which rows of a long list are drawn. Pure. */

/** Rows beyond both edges, so that a quick scroll shows no holes. */
const OVERSCAN = 8;

/** The first row to draw, and the one after the last. */
export function windowOf(scrollTop: number, height: number, rowHeight: number, total: number): [number, number] {
  const first = Math.max(0, Math.floor(scrollTop / rowHeight) - OVERSCAN);
  const last = Math.min(total, Math.ceil((scrollTop + height) / rowHeight) + OVERSCAN);
  return [Math.min(first, total), last];
}
