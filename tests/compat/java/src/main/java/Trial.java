import java.net.URI;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.AwsCredentialsProvider;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;

/** What the programs of this folder have in common: where the server is, and how they say what passed. */
final class Trial {
    static final URI ENDPOINT = URI.create(System.getenv("AWS_ENDPOINT_URL_KINESIS"));
    static final AwsCredentialsProvider ANY = StaticCredentialsProvider.create(AwsBasicCredentials.create("any", "any"));

    private Trial() {}

    static void check(boolean holds, Object what) {
        if (!holds) {
            throw new AssertionError(String.valueOf(what));
        }
    }

    static void passed(String what) {
        System.out.println("passed: " + what);
    }
}
