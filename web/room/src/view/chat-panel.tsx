/** What people write to each other. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Send } from "lucide-preact";
import { ownPeerId } from "../state/call.js";
import { chatProblem, markSeen, MAX_LENGTH, messages, say } from "../state/chat.js";
import { PanelFrame } from "./panels.js";

export function ChatPanel() {
  const end = useRef<HTMLDivElement>(null);
  const draft = useSignal("");
  useEffect(() => {
    markSeen();
    end.current?.scrollIntoView({ block: "nearest" });
  }, [messages.value.length]);
  const own = ownPeerId();
  return (
    <PanelFrame title="Chat">
      <div class="messages" role="log" aria-label="Messages" tabIndex={0}>
        {messages.value.length === 0 && <p class="dim">Nobody has written yet. Messages are seen by those who are here now.</p>}
        {messages.value.map(({ id, peer, name, text, at }) => (
          <article key={id} class={peer === own ? "own" : ""}>
            <small>
              <b>{peer === own ? "You" : name}</b> <time dateTime={at.toISOString()}>{at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}</time>
            </small>
            <p>{text}</p>
          </article>
        ))}
        <div ref={end} />
      </div>
      <form
        class="write"
        onSubmit={(event) => {
          event.preventDefault();
          if (say(draft.value)) draft.value = "";
        }}
      >
        <input
          value={draft}
          onInput={(event) => (draft.value = event.currentTarget.value)}
          aria-label="Message"
          placeholder="Write to everybody"
          maxLength={MAX_LENGTH}
          autocomplete="off"
        />
        <button class="plain" aria-label="Send" title="Send" disabled={draft.value.trim() === ""}>
          <Send size={19} aria-hidden />
        </button>
      </form>
      <p class="problem" role="status">
        {chatProblem}
      </p>
    </PanelFrame>
  );
}
