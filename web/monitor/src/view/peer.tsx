/** One peer: where it is and why, by the reasons that the allocator gave with each decision. */

import { useEffect, useRef } from "preact/hooks";
import { X } from "lucide-preact";
import type { Decision, Explanation, Peer } from "../state/api.js";
import { clock, percent, workerName } from "../state/format.js";
import { goToEntry } from "../state/moment.js";
import { address } from "../state/route.js";
import { useJson } from "../state/use-json.js";
import { Status } from "./overview.js";

export function PeerDialog({ room, peer }: { room: string; peer: string }) {
  const { value, problem } = useJson<Peer>(`rooms/${encodeURIComponent(room)}/peers/${encodeURIComponent(peer)}`);
  return (
    <Dialog title={value?.name ?? peer} onClose={() => (location.hash = address("rooms", room))}>
      {problem && !value && <p>{problem}</p>}
      {value && (
        <>
          <p>
            <Status status={value.status} /> {value.worker && value.server && `on ${workerName(value.worker, value.server)} of ${value.server}, placed ${value.generation}×`}
          </p>
          {(value.producing?.length ?? 0) > 0 && (
            <>
              <h3>Produces</h3>
              <ul class="objects">
                {value.producing?.map((it) => (
                  <li key={it.producer}>
                    <b>{it.kind}</b> <code>{it.producer}</code> {it.paused && <Status status="paused" />}
                  </li>
                ))}
              </ul>
            </>
          )}
          <h3>Decisions, newest first</h3>
          {value.decisions.length === 0 && <p class="dim">The log has none.</p>}
          {value.decisions.map((it) => (
            <DecisionCard key={it.seq} decision={it} />
          ))}
        </>
      )}
    </Dialog>
  );
}

function DecisionCard({ decision }: { decision: Decision }) {
  return (
    <article class="decision">
      <header>
        <b>{decision.text}</b>
        <button class="link" onClick={() => void goToEntry(decision.seq)} title="Show the fleet as of this decision">
          #{decision.seq}, {clock(decision.time)}
        </button>
      </header>
      <Reasons explanation={decision} />
    </article>
  );
}

export function Reasons({ explanation }: { explanation: Explanation }) {
  const listed = explanation.candidates ?? [];
  const beyond = Object.entries(explanation.passedOver ?? {}).filter(([reason, number]) => number > listed.filter((it) => it.outcome === reason).length);
  return (
    <>
      <p>
        {explanation.summary} <small>policy {explanation.policy}</small>
      </p>
      {listed.length > 0 && (
        <table class="candidates">
          <thead>
            <tr>
              <th scope="col">Worker</th>
              <th scope="col">Outcome</th>
              <th scope="col">Load</th>
              <th scope="col">Score</th>
            </tr>
          </thead>
          <tbody>
            {listed.map((it) => (
              <tr key={it.worker} class={it.outcome === "chosen" ? "chosen" : ""}>
                <td title={it.worker}>
                  {it.server} · {workerName(it.worker, it.server)}
                </td>
                <td>{it.outcome}</td>
                <td>{percent(it.load)}</td>
                <td>{it.score?.toFixed(3) ?? "–"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {beyond.map(([reason, number]) => (
        <small key={reason}>
          {number} passed over: {reason}{" "}
        </small>
      ))}
    </>
  );
}

export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: preact.ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    element.current?.showModal();
  }, []);
  return (
    <dialog ref={element} onClose={onClose} aria-label={title} onClick={(event) => event.target === element.current && element.current?.close()}>
      <div class="dialog-body">
        <header>
          <h2>{title}</h2>
          <button class="plain" aria-label="Close" onClick={() => element.current?.close()}>
            <X size={18} aria-hidden />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}
