/** The service worker: keeps every file of the site, so that it works offline, and drops those of older versions. */

import { ARRIVED, arrivedAs } from "./model.ts";

/** Written before this file by `site_files`: the files of the site, a hash of all of them, and those of large ones. */
declare const SITE: { version: string; files: string[]; sha256: Record<string, string> };

const scope = self as unknown as ServiceWorkerGlobalScope;
const PREFIX = "spectraderm-";
const cacheName = `${PREFIX}${SITE.version}`;
const files = new Set(SITE.files.map((name) => new URL(name, scope.registration.scope).href));
/** With these a browser lets the model use several processor cores. */
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

async function keep(): Promise<void> {
  const cache = await caches.open(cacheName);
  const missing = new Set(files);
  for (const [name, sha256] of Object.entries(SITE.sha256)) {
    const url = new URL(name, scope.registration.scope).href;
    const arrived = await caches.match(arrivedAs(url, sha256), { cacheName: ARRIVED });
    if (arrived && missing.delete(url)) await cache.put(url, arrived);
  }
  await cache.addAll([...missing].map((url) => new Request(url, { cache: "no-cache" })));
  await scope.skipWaiting();
}

async function dropOlder(): Promise<void> {
  const older = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== cacheName);
  await Promise.all(older.map((name) => caches.delete(name)));
  await scope.clients.claim();
}

async function give(url: string): Promise<Response> {
  const cached = await caches.match(url, { cacheName });
  if (!cached) return fetch(url);
  const headers = { ...Object.fromEntries(cached.headers), ...ISOLATION };
  return new Response(cached.body, { status: cached.status, headers });
}

scope.addEventListener("install", (event) => event.waitUntil(keep()));
scope.addEventListener("activate", (event) => event.waitUntil(dropOlder()));
scope.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  url.search = url.hash = "";
  if (url.href === scope.registration.scope) url.pathname += "index.html";
  if (event.request.method === "GET" && files.has(url.href)) event.respondWith(give(url.href));
});
