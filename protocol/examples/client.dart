import 'dart:convert';
import 'dart:io';

import 'package:centrifuge/centrifuge.dart' as centrifuge;

Future<void> main() async {
  final client = centrifuge.createClient(
    'ws://localhost:8000/connection/websocket',
    centrifuge.ClientConfig(token: Platform.environment['TOKEN'] ?? ''),
  );
  client.connected.listen((event) => print('connected as ${event.client}'));
  client.disconnected.listen((event) => print('disconnected: ${event.code} ${event.reason}'));
  final subscription = client.newSubscription('news');
  subscription.publication.listen((event) => print(utf8.decode(event.data)));
  await subscription.subscribe();
  await client.connect();
}
