/** The page: a fleet's servers, rooms, log and problems, now and at any moment of the past. */

import { render } from "preact";
import { App } from "./view/app.js";
import "../../room/src/style/tokens.css";
import "./style/page.css";
import "./style/views.css";

render(<App />, document.getElementById("app") as HTMLElement);
