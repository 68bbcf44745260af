import { describe, expect, it } from "vitest";
import { abortable, anyAborted, delay } from "../src/abort.js";
import { Emitter } from "../src/emitter.js";
import { layerForHeight } from "../src/media/adaptive.js";
import { svcUpTo } from "../src/media/layers.js";

class Source extends Emitter<{ value: number }> {
  send(value: number): void {
    this.emit("value", value);
  }

  end(): void {
    this.endEvents();
  }
}

describe("layerForHeight", () => {
  it.each([
    [0, 0],
    [180, 0],
    [216, 0],
    [217, 1],
    [432, 1],
    [433, 2],
    [2160, 2],
  ])("gives an element of %i pixels layer %i", (height, layer) => expect(layerForHeight(height)).toBe(layer));
});

describe("svcUpTo", () => {
  const whole = { scalabilityMode: "L3T3_KEY", scaleResolutionDownBy: 1, maxBitrate: 800_000 };
  it.each([
    [2, 1280, 720, "L3T3_KEY", 1],
    [1, 1280, 720, "L2T3_KEY", 2],
    [0, 1280, 720, "L1T3", 4],
    [0, 720, 1280, "L1T3", 4],
    [1, 640, 360, "L3T3_KEY", 1], // of which an encoder makes two layers only
    [0, 640, 360, "L1T3", 2],
    [0, 320, 180, "L3T3_KEY", 1],
  ])("sends layers up to %i of %i x %i in mode %s, scaled by %i", (highest, width, height, scalabilityMode, scaleResolutionDownBy) =>
    expect(svcUpTo(highest, whole, width, height)).toMatchObject({ scalabilityMode, scaleResolutionDownBy }),
  );
});

describe("Emitter", () => {
  it("calls listeners until they stop or their signal aborts", () => {
    const source = new Source();
    const heard: string[] = [];
    const aborting = new AbortController();
    const stop = source.on("value", (value) => heard.push(`a${value}`));
    source.on("value", (value) => heard.push(`b${value}`), { signal: aborting.signal });
    source.send(1);
    stop();
    source.send(2);
    aborting.abort();
    source.send(3);
    expect(heard).toEqual(["a1", "b1", "b2"]);
  });

  it("gives the next event once", async () => {
    const source = new Source();
    const next = source.once("value");
    source.send(1);
    source.send(2);
    expect(await next).toBe(1);
  });

  it("rejects a wait whose signal aborts", async () => {
    const aborting = new AbortController();
    const next = new Source().once("value", { signal: aborting.signal });
    aborting.abort(new Error("enough"));
    await expect(next).rejects.toThrow("enough");
  });

  it("keeps events for a reader from the call on, and ends with its source", async () => {
    const source = new Source();
    source.send(0);
    const events = source.events("value");
    source.send(1);
    source.send(2);
    source.end();
    const seen: number[] = [];
    for await (const value of events) seen.push(value);
    expect(seen).toEqual([1, 2]);
  });
});

describe("abort", () => {
  it("rejects with the signal's reason, before and while waiting", async () => {
    const aborting = new AbortController();
    const waiting = abortable(new Promise(() => undefined), aborting.signal);
    aborting.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
    await expect(abortable(Promise.resolve(1), aborting.signal)).rejects.toThrow("enough");
    await expect(delay(1_000_000, aborting.signal)).rejects.toThrow("enough");
    await anyAborted(new AbortController().signal, aborting.signal);
  });

  it("passes results and errors on", async () => {
    const { signal } = new AbortController();
    expect(await abortable(Promise.resolve(1), signal)).toBe(1);
    await expect(abortable(Promise.reject(new Error("no")), signal)).rejects.toThrow("no");
  });
});
