"""What the browser tests ask of a page."""

# Milliseconds from a key to the end of the frame in which its result is painted
STEP = """(key) => new Promise((done) => {
  const begin = performance.now();
  document.querySelector('.vae-lab').dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  requestAnimationFrame(() => { const channel = new MessageChannel();
    channel.port1.onmessage = () => done(performance.now() - begin); channel.port2.postMessage(0); });
})"""
