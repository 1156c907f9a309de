// Asking the app: one call, and the stream of frames. The token stays in this tab, and goes nowhere
// but into the Authorization header of requests to where this page came from.

const KEY = "routecache.token";
const SILENT_MS = 10_000; // there is a frame every two seconds at least

export class SignedOut extends Error {}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  clear: () => sessionStorage.removeItem(KEY),
};

function headers(more) {
  const sent = token.get();
  return { ...(sent ? { authorization: `Bearer ${sent}` } : {}), ...more };
}

// Returns the JSON of an answer. Throws SignedOut when nobody is let in without another token, and
// an Error with the app's own words when it refuses.
export async function call(path, body) {
  const options =
    body === undefined
      ? { headers: headers() }
      : {
          method: "POST",
          headers: headers({ "content-type": "application/json" }),
          body: JSON.stringify(body),
        };
  const answer = await fetch(path, { cache: "no-store", ...options });
  if (answer.status === 401) throw new SignedOut(await words(answer));
  if (!answer.ok) throw new Error(await words(answer));
  return answer.json();
}

async function words(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `The server says ${answer.status}.`;
  }
}

// Calls `take` with each frame until `signal` says stop or nobody is let in. A stream ends by
// itself after a while; the next one goes on from the last point. So it does when nothing comes: a
// connection that a sleeping laptop or a proxy has lost may stay open for an hour.
export async function follow(view, { take, lost, signal }) {
  let since = 0;
  while (!signal.aborted) {
    const began = Date.now();
    const silence = watch(signal);
    try {
      const from = since ? `&since=${since}` : "";
      const answer = await fetch(`live?window=${view}${from}`, {
        headers: headers(),
        cache: "no-store",
        signal: silence.signal,
      });
      if (answer.status === 401) throw new SignedOut(await words(answer));
      if (!answer.ok) throw new Error(await words(answer));
      for await (const frame of frames(answer.body)) {
        silence.broken();
        const points = frame.points;
        if (points.length) since = points[points.length - 1].t;
        else if (since > frame.at_s) since = 0; // the server's clock was put right
        take(frame);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof SignedOut) throw error;
      lost(error);
    } finally {
      silence.over();
    }
    // Not more than one request a second, whatever happens to them.
    await pause(Math.max(50, 1000 - (Date.now() - began)), signal);
  }
}

// A signal that says stop when the other one does, or when nothing has come for too long.
function watch(other) {
  const stop = new AbortController();
  const ended = () => stop.abort(other.reason);
  const silent = () => stop.abort(new Error("the server says nothing"));
  let timer = setTimeout(silent, SILENT_MS);
  other.addEventListener("abort", ended);
  return {
    signal: stop.signal,
    broken() {
      clearTimeout(timer);
      timer = setTimeout(silent, SILENT_MS);
    },
    over() {
      clearTimeout(timer);
      other.removeEventListener("abort", ended);
    },
  };
}

async function* frames(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
    }
  }
}

function pause(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        done();
      },
      { once: true },
    );
  });
}
