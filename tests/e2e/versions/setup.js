'use strict';

/* global MEDIASOUP_LIBRARY */

// mediasoup's tests were written for a worker on the same host. What is asked here is what they assert, not how fast:
// everything may take longer, and no test ends before what the library requested by itself is answered.
const TIMES = 12;

const { observer } = require(MEDIASOUP_LIBRARY);

const workers = new Set();

observer.on('newworker', (worker) => workers.add(worker));

jest.setTimeout(5000 * TIMES);

// The library pauses and resumes a piped producer without awaiting it (Router.pipeToRouter). A test that closes its worker
// meanwhile would fail with the rejection. A worker answers a dump after all that was requested of it before.
async function requestsAreAnswered() {
	const open = [...workers].filter((worker) => !worker.closed);

	workers.clear();

	await Promise.allSettled(open.map((worker) => worker.dump()));
}

for (const name of ['test', 'it', 'beforeAll', 'beforeEach', 'afterAll', 'afterEach']) {
	const original = global[name];

	global[name] = Object.assign((...args) => {
		if (typeof args.at(-1) === 'number') {
			args.push(args.pop() * TIMES);
		}

		if (name === 'afterEach') {
			const clean = args[0];

			args[0] = async () => {
				await requestsAreAnswered();
				await clean();
			};
		}

		return original(...args);
	}, original);
}
