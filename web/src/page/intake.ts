/** The ways a photo comes to the page: dropped, pasted, chosen or taken. */

import { element, find } from "./elements.ts";

export type Take = (photo: Blob) => void;

export function openIntake(take: Take): void {
  for (const [button, input] of [["choose", "file"], ["camera", "shot"]]) {
    const files = find<HTMLInputElement>(input);
    find(button).addEventListener("click", () => files.click());
    files.addEventListener("change", () => {
      const photo = files.files?.[0];
      files.value = ""; // so that the same photo can be chosen again
      if (photo) take(photo);
    });
  }
  find("camera").hidden = navigator.maxTouchPoints === 0; // elsewhere it would only choose a file
  document.addEventListener("paste", (event) => takeFrom(event.clipboardData, event, take));
  dropped(take);
}

/** Painted photos to try. */
export function offerPaintings(urls: string[], take: Take): void {
  const buttons = urls.map((url, number) => {
    const image = element("img", { src: url, alt: `Painting ${number + 1}`, loading: "lazy" });
    const button = element("button", { type: "button" }, image);
    button.addEventListener("click", async () => take(await (await fetch(url)).blob()));
    return button;
  });
  const paintings = find("paintings");
  paintings.querySelector(".buttons")?.replaceChildren(...buttons);
  paintings.hidden = !urls.length;
}

function dropped(take: Take): void {
  const area = find("drop");
  const over = (inside: boolean) => (event: DragEvent) => {
    event.preventDefault();
    area.classList.toggle("over", inside);
  };
  document.addEventListener("dragover", over(true));
  document.addEventListener("dragleave", over(false));
  document.addEventListener("drop", (event) => {
    over(false)(event);
    takeFrom(event.dataTransfer, event, take);
  });
}

function takeFrom(data: DataTransfer | null, event: Event, take: Take): void {
  const photo = data?.files[0];
  if (!photo) return;
  event.preventDefault();
  take(photo);
}
