import com.amazonaws.services.dynamodbv2.local.server.LocalDynamoDBRequestHandler;
import com.amazonaws.services.dynamodbv2.local.server.LocalDynamoDBServerHandler;
import java.net.InetSocketAddress;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.handler.ContextHandler;

/**
 * DynamoDB Local, in memory. AWS's own main class listens on every address of
 * the machine, on a port that must be known before, and reports its use.
 *
 * It prints the port that the kernel gave it, and ends with its standard input.
 */
public class Local {
    public static void main(String[] args) throws Exception {
        var requests = new LocalDynamoDBRequestHandler(0, true, null, true, false);
        var handler = new LocalDynamoDBServerHandler(requests, null);
        var server = new Server(new InetSocketAddress("127.0.0.1", 0));
        server.setHandler(new ContextHandler(handler, "/"));
        server.start();
        System.out.println(((ServerConnector) server.getConnectors()[0]).getLocalPort());
        while (System.in.read() >= 0) {
        }
        Runtime.getRuntime().halt(0);
    }
}
