import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;

/** Prints the access key id that the default chain of the SDK 2.x finds; an exception, and exit code 1, where it finds none. */
public final class Two {
    public static void main(String[] arguments) {
        System.out.println(DefaultCredentialsProvider.create().resolveCredentials().accessKeyId());
    }
}
