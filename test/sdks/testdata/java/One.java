import com.amazonaws.auth.DefaultAWSCredentialsProviderChain;

/** Prints the access key id that the default chain of the SDK 1.x finds; an exception, and exit code 1, where it finds none. */
public final class One {
    public static void main(String[] arguments) {
        System.out.println(new DefaultAWSCredentialsProviderChain().getCredentials().getAWSAccessKeyId());
    }
}
