// Drives the official @fal-ai/client against our fal door and prints what it saw as one JSON object.
// usage: node fal_door.cjs <proxy|middleware> <url of the door> <key> <where a webhook may be sent> <a PNG, base64>
const { ApiError, ValidationError, createFalClient } = require("@fal-ai/client");

const [, , way, door, key, receiver, png] = process.argv;
const rewrite = (url) =>
  url.replace("https://queue.fal.run", door).replace("https://fal.run", `${door}/run`).replace("https://rest.fal.ai", door);
const configured = (credentials) =>
  createFalClient(
    way === "proxy"
      ? { credentials, proxyUrl: { url: `${door}/proxy`, when: "always" } }
      : { credentials, requestMiddleware: async (request) => ({ ...request, url: rewrite(request.url) }) },
  );
const fal = configured(key);

const MODEL = "fal-ai/flux/dev";
const input = (faults = {}, more = {}) => ({
  prompt: "a red fox",
  image_size: { width: 64, height: 64 },
  ...more,
  _emulator: { latency_s: 0.3, ...faults },
});

async function fails(action) {
  try {
    await action();
  } catch (error) {
    return {
      status: error.status,
      body: error.body,
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

  const queued = await fal.queue.submit(MODEL, { input: input(), priority: "low", webhookUrl: receiver });
  seen.submitted = queued;
  seen.statusEarly = await fal.queue.status(MODEL, { requestId: queued.request_id, logs: true });
  seen.statusDone = await fal.queue.subscribeToStatus(MODEL, { requestId: queued.request_id, logs: true, pollInterval: 100 });
  seen.result = await fal.queue.result(MODEL, { requestId: queued.request_id });

  for (const mode of ["polling", "streaming"]) {
    const updates = [];
    let enqueued = null;
    const result = await fal.subscribe(MODEL, {
      input: input(),
      logs: true,
      mode,
      ...(mode === "polling" ? { pollInterval: 100 } : {}),
      onEnqueue: (id) => {
        enqueued = id;
      },
      onQueueUpdate: (update) => updates.push({ status: update.status, hasLogs: Array.isArray(update.logs) }),
    });
    seen[mode] = { result, updates, enqueued };
  }

  const unwanted = await fal.queue.submit(MODEL, { input: input({ latency_s: 60 }) });
  await fal.queue.cancel(MODEL, { requestId: unwanted.request_id });
  seen.canceled = await fal.queue.subscribeToStatus(MODEL, { requestId: unwanted.request_id, pollInterval: 100 });
  seen.canceledResult = await fails(() => fal.queue.result(MODEL, { requestId: unwanted.request_id }));
  seen.cancelTooLate = await fails(() => fal.queue.cancel(MODEL, { requestId: queued.request_id }));

  seen.run = await fal.run("local/aurora", { input: { prompt: "a lighthouse", width: 64, height: 64 } });
  seen.slowRun = await fal.run(MODEL, { input: input({ latency_s: 3 }) });
  const stream = await fal.stream(MODEL, { input: input() });
  seen.streamEvents = 0;
  for await (const _event of stream) seen.streamEvents += 1;
  seen.streamDone = await stream.done();

  // storage: by itself, and as a part of an input
  const blob = new Blob([Buffer.from(png, "base64")], { type: "image/png" });
  seen.uploaded = await fal.storage.upload(blob);
  const back = await fetch(seen.uploaded);
  seen.uploadedType = back.headers.get("content-type");
  seen.uploadedBack = Buffer.from(await back.arrayBuffer()).toString("base64");
  const repaint = { prompt: "repaint it", image_url: blob, _emulator: { latency_s: 0.1 } };
  seen.withImage = (await fal.queue.submit(`${MODEL}/image-to-image`, { input: repaint })).request_id;
  await fal.queue.subscribeToStatus(MODEL, { requestId: seen.withImage, pollInterval: 100 });

  // errors
  seen.invalid = await fails(() => fal.queue.submit(MODEL, { input: { num_images: 1 } }));
  seen.policy = await fails(() => fal.subscribe(MODEL, { input: input({ fail: "content_policy" }), pollInterval: 100 }));
  seen.unknownApp = await fails(() => fal.queue.submit("fal-ai/no-such-app", { input: { prompt: "x" } }));
  seen.unknownRequest = await fails(() => fal.queue.status(MODEL, { requestId: "no-such-request" }));
  seen.early = await fails(async () => {
    const { request_id: requestId } = await fal.queue.submit(MODEL, { input: input({ latency_s: 60 }) });
    await fal.queue.result(MODEL, { requestId });
  });
  seen.stranger = await fails(() => configured("sk_nobody").queue.submit(MODEL, { input: input() }));

  console.log(JSON.stringify(seen));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
