import java.net.URI;
import software.amazon.awssdk.auth.credentials.AwsCredentialsProvider;
import software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider;

/** What the programs of this folder have in common: where the server is, and how they say what passed. */
final class Trial {
    static final URI ENDPOINT = URI.create(System.getenv("AWS_ENDPOINT_URL_KINESIS"));
    static final AwsCredentialsProvider CREDENTIALS = EnvironmentVariableCredentialsProvider.create();

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
