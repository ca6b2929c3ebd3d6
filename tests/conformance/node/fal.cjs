// Drives the official @fal-ai/client and prints what it saw as one JSON object.
// usage: node fal.cjs <proxy|middleware> <base url of the fal emulator>
const { ApiError, ValidationError, createFalClient } = require("@fal-ai/client");

const [, , door, base] = process.argv;
const rewrite = (url) =>
  url
    .replace("https://queue.fal.run", `${base}/queue`)
    .replace("https://fal.run", `${base}/run`)
    .replace("https://rest.fal.ai", `${base}/rest`);

const fal = createFalClient(
  door === "proxy"
    ? { credentials: "key:secret", proxyUrl: { url: `${base}/proxy`, when: "always" } }
    : {
        credentials: "key:secret",
        requestMiddleware: async (request) => ({ ...request, url: rewrite(request.url) }),
      },
);

const MODEL = "fal-ai/flux/dev";
const input = (faults = {}, more = {}) => ({
  prompt: "a red fox",
  image_size: { width: 64, height: 64 },
  ...more,
  _emulator: { latency_s: 0.4, ...faults },
});

async function fails(action) {
  try {
    await action();
  } catch (error) {
    return {
      name: error.name,
      status: error.status,
      isApiError: error instanceof ApiError,
      isValidationError: error instanceof ValidationError,
      fieldErrors: error.fieldErrors,
      promptErrors: error.getFieldErrors?.("prompt"),
      requestId: error.requestId,
    };
  }
  return null;
}

async function main() {
  const seen = {};

  // submit, status, result, each by itself
  const queued = await fal.queue.submit(MODEL, {
    input: input({ latency_s: 1.5 }),
    priority: "low",
    startTimeout: 30,
    hint: "a-hint",
  });
  seen.submitted = queued;
  seen.statusEarly = await fal.queue.status(MODEL, { requestId: queued.request_id, logs: true });
  seen.statusDone = await fal.queue.subscribeToStatus(MODEL, { requestId: queued.request_id, logs: true, pollInterval: 50 });
  seen.result = await fal.queue.result(MODEL, { requestId: queued.request_id });

  // subscribe, by polling and by events
  for (const mode of ["polling", "streaming"]) {
    const updates = [];
    let enqueued = null;
    const result = await fal.subscribe(MODEL, {
      input: input(),
      logs: true,
      mode,
      ...(mode === "polling" ? { pollInterval: 50 } : {}),
      onEnqueue: (id) => {
        enqueued = id;
      },
      onQueueUpdate: (update) => updates.push({ status: update.status, logs: update.logs?.length ?? null }),
    });
    seen[mode] = { result, updates, enqueued };
  }

  // cancel
  const unwanted = await fal.queue.submit(MODEL, { input: input({ latency_s: 60 }) });
  await fal.queue.cancel(MODEL, { requestId: unwanted.request_id });
  seen.canceled = await fal.queue.subscribeToStatus(MODEL, { requestId: unwanted.request_id, pollInterval: 50 });
  seen.canceledResult = await fails(() => fal.queue.result(MODEL, { requestId: unwanted.request_id }));
  seen.cancelTooLate = await fails(() => fal.queue.cancel(MODEL, { requestId: queued.request_id }));

  // direct run and its stream
  seen.run = await fal.run(MODEL, { input: input() });
  const stream = await fal.stream(MODEL, { input: input() });
  seen.streamEvents = 0;
  for await (const _event of stream) seen.streamEvents += 1;
  seen.streamDone = await stream.done();

  // storage: by itself, and as a part of an input
  const blob = new Blob([new Uint8Array([137, 80, 78, 71, 1, 2, 3])], { type: "image/png" });
  seen.uploaded = await fal.storage.upload(blob);
  const back = await fetch(seen.uploaded);
  seen.uploadedType = back.headers.get("content-type");
  seen.uploadedBytes = [...new Uint8Array(await back.arrayBuffer())];
  const withImage = await fal.queue.submit(MODEL, { input: input({}, { image_url: blob }) });
  seen.withImage = withImage.request_id;

  // errors
  seen.invalid = await fails(() => fal.subscribe(MODEL, { input: { _emulator: { latency_s: 0.1 } }, pollInterval: 50 }));
  seen.policy = await fails(() => fal.subscribe(MODEL, { input: input({ fail: "content_policy" }), pollInterval: 50 }));
  seen.unknown = await fails(() => fal.queue.status(MODEL, { requestId: "no-such-request" }));

  // what the client does about a busy provider and a lost answer by itself
  seen.patient = (await fal.queue.submit(MODEL, { input: input({ submit: "429", submit_times: 1 }, { prompt: "patience" }) })).request_id;

  console.log(JSON.stringify(seen));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
