(() => {
  // Drop, paste, camera and paintings all hand their file to Gradio's own button, unchanged.
  const hand = (file) => {
    const input = document.querySelector("input[type=file]:not(.camera input)");
    if (!file || !input) return;
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  // Phones offer camera and gallery; Gradio's own check of types would leave the last answer standing, unlike ours.
  const widen = () => document.querySelector("input[type=file]:not(.camera input)")?.setAttribute("accept", "image/*,.heic,.heif");
  const bytes = (url) => Uint8Array.from(atob(url.split(",")[1]), (c) => c.charCodeAt(0));
  const dropping = (on) => document.body.classList.toggle("dropping", on);

  document.addEventListener("paste", (event) => hand(event.clipboardData?.files[0]));
  document.addEventListener("dragover", (event) => { event.preventDefault(); dropping(true); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) dropping(false); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    dropping(false);
    hand(event.dataTransfer?.files[0]);
  });
  document.addEventListener("click", (event) => {
    const painting = event.target.closest?.(".example img, .example")?.closest(".example")?.querySelector("img");
    if (painting) hand(new File([bytes(painting.src)], "painting.jpg", { type: "image/jpeg" }));
  });
  // Before Gradio hears of it: what is too large is not sent at all.
  document.addEventListener("change", (event) => {
    const file = event.target.type === "file" && event.target.files[0];
    if (!file) return;
    const refusal = document.querySelector("#too-large");
    if (file.size > Number(refusal.dataset.most)) {
      event.stopImmediatePropagation();
      event.target.value = "";
      document.querySelector("#answer .prose").replaceChildren(refusal.content.cloneNode(true));
    } else if (event.target.matches(".camera input")) hand(file);
  }, true);
  document.addEventListener("input", (event) => {
    if (event.target.matches?.(".opacity input"))
      event.target.closest("figure").style.setProperty("--heat", event.target.value / 100);
  });
  // On a narrow screen the answer comes below the photo: bring it into view once it is there.
  let seen = "";
  const follow = () => {
    const card = document.querySelector("#answer .card");
    const kind = card ? card.className : "";
    if (card && seen && kind !== seen && card.getBoundingClientRect().top > 0.6 * innerHeight)
      card.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    seen = kind;
    widen();
  };
  new MutationObserver(follow).observe(document.documentElement, { childList: true, subtree: true });
})();
