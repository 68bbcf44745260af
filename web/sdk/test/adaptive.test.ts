// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { AdaptiveStream } from "../src/media/adaptive.js";

/** Calls back with what the test says is on the screen; happy-dom lays nothing out. */
class Intersections {
  static all: Intersections[] = [];

  constructor(private readonly callback: (entries: { target: Element; isIntersecting: boolean }[]) => void) {
    Intersections.all.push(this);
  }

  show(target: Element, isIntersecting: boolean): void {
    this.callback([{ target, isIntersecting }]);
  }

  observe = () => undefined;
  unobserve = () => undefined;
  disconnect = () => undefined;
}

let isHidden = false;
let inWindow: Element | null = null;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("IntersectionObserver", Intersections);
  vi.stubGlobal("devicePixelRatio", 1);
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  Object.defineProperty(document, "pictureInPictureElement", { configurable: true, get: () => inWindow });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  isHidden = false;
  inWindow = null;
});

function watched() {
  const told: boolean[] = [];
  const stream = new AdaptiveStream(({ visible }) => told.push(visible));
  const video = document.body.appendChild(document.createElement("video"));
  stream.attach(video);
  vi.runAllTimers();
  const setHidden = (hidden: boolean, ms: number) => {
    isHidden = hidden;
    document.dispatchEvent(new Event("visibilitychange"));
    vi.advanceTimersByTime(ms);
  };
  return { told, stream, video, setHidden };
}

it("receives no video while the page is in the background, and at once when it is in front again", () => {
  const { told, setHidden } = watched();
  setHidden(true, 10_000);
  setHidden(false, 1_000);
  expect(told).toEqual([true, false, true]);
});

it("goes on through a short look at another page", () => {
  const { told, setHidden } = watched();
  setHidden(true, 1_000);
  setHidden(false, 10_000);
  expect(told).toEqual([true]);
});

it("goes on in a picture-in-picture window, until that is closed", () => {
  const { told, video, setHidden } = watched();
  inWindow = video;
  setHidden(true, 10_000);
  expect(told).toEqual([true]);
  inWindow = null;
  video.dispatchEvent(new Event("leavepictureinpicture", { bubbles: true }));
  vi.advanceTimersByTime(1_000);
  expect(told).toEqual([true, false]);
});

it("says nothing any more when it is closed", () => {
  const { told, stream, setHidden } = watched();
  stream.close();
  setHidden(true, 10_000);
  expect(told).toEqual([true]);
});

it("receives nothing of what is off the screen", () => {
  const { told, video } = watched();
  Intersections.all.at(-1)?.show(video, false);
  vi.advanceTimersByTime(1_000);
  expect(told).toEqual([true, false]);
});
