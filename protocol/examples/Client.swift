import Foundation
import SwiftCentrifuge

final class News: CentrifugeSubscriptionDelegate {
    func onPublication(_ sub: CentrifugeSubscription, _ event: CentrifugePublicationEvent) {
        print(String(data: event.data, encoding: .utf8) ?? "\(event.data.count) bytes")
    }
}

final class Connection: CentrifugeClientDelegate {
    func onConnected(_ client: CentrifugeClient, _ event: CentrifugeConnectedEvent) {
        print("connected as \(event.client)")
    }

    func onDisconnected(_ client: CentrifugeClient, _ event: CentrifugeDisconnectedEvent) {
        print("disconnected: \(event.code) \(event.reason)")
    }
}

let connection = Connection()
let news = News()
let config = CentrifugeClientConfig(token: ProcessInfo.processInfo.environment["TOKEN"] ?? "")
let client = CentrifugeClient(
    endpoint: "ws://localhost:8000/connection/websocket",
    config: config,
    delegate: connection
)
let subscription = try client.newSubscription(channel: "news", delegate: news)
subscription.subscribe()
client.connect()
RunLoop.main.run()
