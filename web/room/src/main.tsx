/** The page: a lobby, then the call, then a good-bye. */

import { render } from "preact";
import { phase } from "./state/call.js";
import { Call } from "./view/call.js";
import { Ended } from "./view/ended.js";
import { Lobby } from "./view/lobby.js";
import "./style/tokens.css";
import "./style/controls.css";
import "./style/lobby.css";
import "./style/call.css";

function App() {
  if (phase.value === "call") return <Call />;
  if (phase.value === "ended") return <Ended />;
  return <Lobby />;
}

render(<App />, document.getElementById("app") as HTMLElement);
