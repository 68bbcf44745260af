import { expect, it } from "vitest";
import { TransportsAhead } from "../src/session/ahead.js";
import type { Requests } from "../src/session/requests.js";

/** Answers each request for a transport as `answer` does. */
const answering = (answer: (transport: string) => object) =>
  ({ askTransport: async (_: string, { transport }: { transport: string }) => answer(transport) }) as unknown as Requests;

it("gives a transport once, to the endpoint at its place", async () => {
  const ahead = new TransportsAhead(answering((transport) => ({ transport, generation: 1 })));
  ahead.request("send");
  ahead.request("receive");
  expect(await ahead.take("receive", 1)).toMatchObject({ generation: 1 });
  expect(await ahead.take("receive", 1)).toBeUndefined();
  expect(await ahead.take("send", 2)).toBeUndefined(); // it is at the former place
});

it("gives nothing where the transport was refused", async () => {
  const refused = new TransportsAhead(
    answering(() => {
      throw new Error("not joined");
    }),
  );
  refused.request("send");
  expect(await refused.take("send", 1)).toBeUndefined();
});
