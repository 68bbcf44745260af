// @vitest-environment happy-dom
import { act, createElement, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import type { JoinOptions, Room, RoomEvents } from "mafalda-client";
import { expect, test, vi } from "vitest";
import { Emitter } from "../../sdk/src/emitter.js";
import { MafaldaError } from "../../sdk/src/errors.js";
import { useJoinedRoom } from "../src/index.js";

class FakeRoom extends Emitter<RoomEvents> {
  readonly leave = vi.fn(async () => undefined);
  end(error: MafaldaError): void {
    this.emit("ended", { error });
  }
}

const joins: { options: JoinOptions; joined(room: FakeRoom): void }[] = [];

vi.mock("mafalda-client", () => ({
  joinRoom: (options: JoinOptions) => new Promise<Room>((resolve) => joins.push({ options, joined: (room) => resolve(room as unknown as Room) })),
}));

test("each mount joins once, and leaves what it has joined, also where effects run twice", async () => {
  (globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;
  const container = document.body.appendChild(document.createElement("div"));
  const root = createRoot(container);
  function View({ id }: { id: string }) {
    const { room, error } = useJoinedRoom({ servers: "ws://localhost", room: id });
    return error?.message ?? (room ? `in ${id}` : "joining");
  }
  const render = (id: string) => act(async () => root.render(createElement(StrictMode, undefined, createElement(View, { id }))));

  await render("red");
  expect(joins.map(({ options }) => options.signal?.aborted)).toEqual([true, false]);
  const [late, red] = [new FakeRoom(), new FakeRoom()];
  await act(async () => joins[0]!.joined(late)); // it was joined before it could be aborted
  expect(late.leave).toHaveBeenCalledOnce();
  await act(async () => joins[1]!.joined(red));
  expect([container.textContent, red.leave.mock.calls.length]).toEqual(["in red", 0]);

  await render("blue");
  expect([container.textContent, red.leave.mock.calls.length]).toEqual(["joining", 1]);
  const blue = new FakeRoom();
  await act(async () => joins[2]!.joined(blue));
  await act(async () => blue.end(new MafaldaError("not-joined", "the room is over")));
  expect(container.textContent).toBe("the room is over");
  await act(async () => root.unmount());
  expect(joins.length).toBe(3);
});
