import { describe, expect, it } from "vitest";
import { fitGrid, GAP } from "../src/state/layout.js";

const STAGES = [
  [1280, 640],
  [370, 660],
  [1900, 900],
  [320, 300],
] as const;

describe("fitGrid", () => {
  it.each(STAGES)("fills a stage of %i × %i with any number of tiles", (width, height) => {
    for (let count = 1; count <= 60; count++) {
      const grid = fitGrid(count, width, height);
      const rows = Math.ceil(count / grid.columns);
      expect(grid.columns * grid.width + (grid.columns - 1) * GAP).toBeLessThanOrEqual(width);
      const isTallEnough = rows * grid.height + (rows - 1) * GAP <= height;
      const isScrolling = grid.width >= 140; // tiles are not made smaller than can be seen
      expect(isTallEnough || isScrolling).toBe(true);
    }
  });

  it("uses the shape of the stage", () => {
    expect(fitGrid(2, 1280, 640).columns).toBe(2);
    expect(fitGrid(2, 370, 660).columns).toBe(1);
    expect(fitGrid(5, 370, 660)).toEqual({ columns: 2, width: 180, height: 180 });
    expect(fitGrid(1, 1280, 640)).toEqual({ columns: 1, width: 1137, height: 639 });
  });
});
