/** Who of this room is on which worker, and which streams go from worker to worker. */

import { useEffect } from "preact/hooks";
import { ArrowRight, Cpu, Server, Zap } from "lucide-preact";
import { allowed, note, people } from "../state/call.js";
import { fleet, fleetProblem, killWorker, watchFleet, type FleetView, type Place } from "../state/fleet.js";
import { PanelFrame } from "./panels.js";
import { Avatar } from "./tile.js";

export function FleetPanel() {
  useEffect(watchFleet, []);
  const view = fleet.value;
  return (
    <PanelFrame title="Who is on which worker">
      <p class="dim">Each worker is one process. Mafalda places people on workers and relays streams between them.</p>
      {fleetProblem.value && <p class="notice">{fleetProblem}</p>}
      {view?.servers.filter((server) => server.workers.length > 0).map((server) => <ServerCard key={server.server} server={server} view={view} />)}
      {view && <Relays view={view} />}
    </PanelFrame>
  );
}

function ServerCard({ server, view }: { server: FleetView["servers"][number]; view: FleetView }) {
  return (
    <section class="server">
      <h3>
        <Server size={15} aria-hidden /> {server.server}
        {server.status !== "up" && <small>{server.status}</small>}
      </h3>
      {server.workers.map((worker) => {
        const here = view.peers.filter((peer) => peer.worker === worker.worker);
        return (
          <div key={worker.worker} class={`worker ${here.length > 0 ? "busy" : ""}`} data-worker={worker.worker}>
            <div class="worker-head">
              <Cpu size={15} aria-hidden />
              <b title={worker.worker}>{nameOf(worker.worker, server.server)}</b>
              {worker.load && (
                <span class="dim" title="CPU">
                  {Math.round(worker.load.cpuRatio * 100)} %
                </span>
              )}
              {allowed.value.killWorkers ? (
                <button class="kill" onClick={() => void kill(worker.worker, nameOf(worker.worker, server.server))} title="Kill its process, and watch the room heal">
                  <Zap size={14} aria-hidden /> Kill {nameOf(worker.worker, server.server)}
                </button>
              ) : (
                <code title="Its process id: kill it, and watch the room heal">kill -9 {worker.pid}</code>
              )}
            </div>
            <ul>
              {here.map((peer) => {
                const person = people.value.find((it) => it.id === peer.peer);
                return (
                  <li key={`${peer.peer}-${peer.generation}`} data-peer={peer.peer}>
                    <Avatar person={person ?? { id: peer.peer, name: peer.peer }} size="small" />
                    <span>
                      {person?.name ?? peer.peer} {person?.isSelf && <small>you</small>}
                    </span>
                    {peer.generation > 1 && <small title="How often this person has been placed">moved {peer.generation - 1}×</small>}
                  </li>
                );
              })}
              {here.length === 0 && <li class="dim">nobody of this room</li>}
            </ul>
          </div>
        );
      })}
    </section>
  );
}

async function kill(worker: string, name: string): Promise<void> {
  try {
    await killWorker(worker);
    note(`${name} was killed; its people are placed again`);
  } catch (error) {
    note(`${name} was not killed: ${(error as Error).message}`);
  }
}

/** `server-1-0-b96d7e` on `server-1` is worker 0, whoever fills its place after a crash. */
function nameOf(worker: string, server: string): string {
  const [slot = worker] = worker.startsWith(`${server}-`) ? worker.slice(server.length + 1).split("-") : [];
  return `worker ${slot}`;
}

function Relays({ view }: { view: FleetView }) {
  const counts = new Map<string, { from: string; to: string; count: number }>();
  for (const { source, target } of view.relays) {
    const key = `${source.worker}>${target.worker}`;
    const entry = counts.get(key) ?? { from: nameWithServer(source, view), to: nameWithServer(target, view), count: 0 };
    counts.set(key, { ...entry, count: entry.count + 1 });
  }
  if (counts.size === 0) return <p class="dim">No stream goes from worker to worker.</p>;
  return (
    <section class="relays">
      <h3>Streams between workers</h3>
      <ul>
        {[...counts].map(([key, { from, to, count }]) => (
          <li key={key}>
            <span>{from}</span>
            <span class="wire" role="img" aria-label="to">
              <ArrowRight size={14} aria-hidden />
            </span>
            <span>{to}</span>
            <b>{count}</b>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** A worker's name; with its server's if there are several. */
function nameWithServer(place: Place, view: FleetView): string {
  const name = nameOf(place.worker, place.server);
  return view.servers.length > 1 ? `${place.server}, ${name}` : name;
}
