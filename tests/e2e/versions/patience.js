'use strict';

// mediasoup's tests give up after 2 or 5 seconds, for a worker on the same host. What is asked here is what they assert, not
// how fast: everything may take longer.
const TIMES = 12;

jest.setTimeout(5000 * TIMES);

for (const name of ['test', 'it', 'beforeAll', 'beforeEach', 'afterAll', 'afterEach']) {
	const original = global[name];

	global[name] = Object.assign((...args) => {
		if (typeof args.at(-1) === 'number') {
			args.push(args.pop() * TIMES);
		}

		return original(...args);
	}, original);
}
