import { describe, expect, it } from "vitest";
import { MafaldaError, Refused, Unavailable, fromErrorInfo } from "../src/errors.js";
import { compose, decode, encode } from "../src/protocol/envelope.js";
import { PeerSubjects, checkId, newId } from "../src/protocol/subjects.js";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("messages", () => {
  it("are CloudEvents that survive the wire", () => {
    const message = compose("mafalda.intent.join.v1", { appData: { name: "Ana" }, oneTransport: false }, "mafalda.room.a.peer.b.intent.join", "/client/b");
    expect(decode(encode(message))).toEqual(message);
    expect(message).toMatchObject({ specversion: "1.0", datacontenttype: "application/json", source: "/client/b" });
  });

  it.each(["", "{", "[]", "null", '{"specversion":"0.3","type":"x","data":{}}', '{"specversion":"1.0","data":{}}', '{"specversion":"1.0","type":"x","data":null}'])(
    "that are none are refused by name: %s",
    (text) => {
      expect(() => decode(bytes(text))).toThrowError(expect.objectContaining({ code: "malformed-message" }));
    },
  );
});

describe("ids and subjects", () => {
  it("are legal when made here, and never the same", () => {
    const ids = new Set(Array.from({ length: 200 }, newId));
    expect(ids.size).toBe(200);
    for (const id of ids) expect(checkId("peer", id)).toBe(id);
  });

  it.each(["", "a.b", "a b", "*", ">", "ü", "x".repeat(65)])("refuse %j", (id) => {
    expect(() => new PeerSubjects(id, "bob")).toThrowError(MafaldaError);
    expect(() => new PeerSubjects("lobby", id)).toThrowError(MafaldaError);
  });

  it("follow docs/subjects.md", () => {
    const subjects = new PeerSubjects("lobby", "ana");
    expect(subjects.intent("join")).toBe("mafalda.room.lobby.peer.ana.intent.join");
    expect(subjects.query("room")).toBe("mafalda.room.lobby.peer.ana.query.room");
    expect(subjects.results).toBe("live.mafalda.room.lobby.peer.ana.result.>");
    expect(subjects.peerEvents).toBe("live.mafalda.room.lobby.peer.ana.event.>");
    expect(subjects.roomEvents).toBe("live.mafalda.room.lobby.event.>");
  });
});

describe("errors", () => {
  it("tell what a retry may mend from what it cannot", () => {
    expect(fromErrorInfo({ code: "worker-died", message: "gone" })).toBeInstanceOf(Unavailable);
    const refused = fromErrorInfo({ code: "not-found", message: "no such producer", details: { producer: "cam" } });
    expect(refused).toBeInstanceOf(Refused);
    expect(refused).toMatchObject({ code: "not-found", message: "no such producer", details: { producer: "cam" }, name: "Refused" });
  });
});
