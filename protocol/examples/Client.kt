import io.github.centrifugal.centrifuge.Client
import io.github.centrifugal.centrifuge.ConnectedEvent
import io.github.centrifugal.centrifuge.DisconnectedEvent
import io.github.centrifugal.centrifuge.EventListener
import io.github.centrifugal.centrifuge.Options
import io.github.centrifugal.centrifuge.PublicationEvent
import io.github.centrifugal.centrifuge.Subscription
import io.github.centrifugal.centrifuge.SubscriptionEventListener

class Connection : EventListener() {
    override fun onConnected(client: Client, event: ConnectedEvent) {
        println("connected as ${event.client}")
    }

    override fun onDisconnected(client: Client, event: DisconnectedEvent) {
        println("disconnected: ${event.code} ${event.reason}")
    }
}

class News : SubscriptionEventListener() {
    override fun onPublication(sub: Subscription, event: PublicationEvent) {
        println(String(event.data, Charsets.UTF_8))
    }
}

fun main() {
    val options = Options()
    options.token = System.getenv("TOKEN")
    val client = Client("ws://localhost:8000/connection/websocket", options, Connection())
    val subscription = client.newSubscription("news", News())
    subscription.subscribe()
    client.connect()
    Thread.currentThread().join()
}
