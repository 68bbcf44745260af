/** Rejected intents, dead workers and failed relays, by cause. */

import type { Problem } from "../state/api.js";
import { clock, count } from "../state/format.js";
import { address } from "../state/route.js";
import { useJson } from "../state/use-json.js";

const KINDS: Record<string, string> = {
  rejected: "Intents that were answered with an error",
  died: "Workers and servers that ended",
  failed: "Relays and placements that failed",
  transport: "Transports that failed",
  unreadable: "Entries that cannot be read",
};

export function Problems() {
  const { value } = useJson<{ sinceSeq: number; problems: readonly Problem[] }>("problems");
  const most = Math.max(1, ...(value?.problems.map((it) => it.count) ?? []));
  return (
    <section class="card grow scroll" aria-labelledby="problems" tabIndex={0}>
      <h1 class="hidden">Problems</h1>
      <div class="card-head">
        <h2 id="problems">Rejections and failures by cause</h2>
        {value && <p class="dim">since entry {count(value.sinceSeq)} of the log</p>}
        <a class="button" href={`${address("log")}?problems=1`}>
          In the log
        </a>
      </div>
      {value?.problems.length === 0 && <p class="empty">Nothing was rejected, and nothing failed.</p>}
      {Object.entries(KINDS).map(([kind, title]) => {
        const found = value?.problems.filter((it) => it.kind === kind) ?? [];
        return (
          found.length > 0 && (
            <div key={kind} class="causes">
              <h3>{title}</h3>
              <ul>
                {found.map((it) => (
                  <li key={`${it.cause} ${it.action}`}>
                    <b class="figure">{count(it.count)}</b>
                    <div>
                      <p>
                        <code>{it.cause}</code> {it.action !== it.cause && <span class="dim">on {it.action}</span>}
                      </p>
                      <p class="example" title={it.example}>
                        {it.example}
                      </p>
                      <span class="bar danger">
                        <i style={{ width: `${(it.count / most) * 100}%` }} />
                      </span>
                    </div>
                    <small>
                      last {clock(it.lastTime)}, #{it.lastSeq}
                      <br />
                      {it.room ?? it.server}
                    </small>
                  </li>
                ))}
              </ul>
            </div>
          )
        );
      })}
    </section>
  );
}
