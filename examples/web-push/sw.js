// Shows what is pushed, also while the page is closed. What arrives is the JSON that docs/push.md describes.
self.addEventListener('push', (event) => {
  const { notification: { title = 'Ringmain', body, icon, tag } = {}, data } = event.data?.json() ?? {}
  event.waitUntil(self.registration.showNotification(title, { body, icon, tag, data }))
})

self.addEventListener('notificationclick', (event) => {
  event.notification.close()
  event.waitUntil(self.clients.openWindow(event.notification.data?.url ?? '/'))
})
