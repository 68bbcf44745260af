/** After the call. */

import { addressOf, problem } from "../state/call.js";
import { roomId } from "../state/settings.js";
import { Brand } from "./brand.js";

export function Ended() {
  return (
    <main class="ended">
      <Brand />
      <h1>{problem.value ? "The call has ended" : "You left the room"}</h1>
      {problem.value && <p class="notice">{problem}</p>}
      <div class="ended-actions">
        <button class="button primary" onClick={() => location.assign(addressOf(roomId.value))} autofocus>
          Back to {roomId}
        </button>
      </div>
    </main>
  );
}
